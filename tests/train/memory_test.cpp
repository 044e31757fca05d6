// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>
#include <fstream>
#include <sstream>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "support/scratch_directory.hpp"
#include "train/trainee.hpp"

namespace spillway::test {
namespace {

/// 25 million parameters, so that what the ledger allocates outweighs the program itself.
constexpr ModelSizes kSizes{.d_model = 512, .d_kv = 64, .heads = 8, .d_ff = 1024, .layers = 4};

struct Case {
  int ranks;
  int stage;
  const char* placement;
  bool saves = false;  // saves and evaluates after every step, and then goes on from the checkpoint in new processes
};

std::ostream& operator<<(std::ostream& out, const Case& test_case) {
  return out << test_case.ranks << " ranks, stage " << test_case.stage << ", moments on " << test_case.placement;
}

std::string text_of(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

class Memory : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (folder_.in_memory()) GTEST_SKIP() << "the working directory is a tmpfs, which offload refuses";
    write_training_folder(folder_.path(), kSizes);
  }

  void write_configuration(int steps) const {
    const Case& run = GetParam();
    std::ofstream(folder_.file("run.toml")) << fmt::format(
        R"(model = {{ path = "{0}/model", init = "random", tokenizer = "bytes" }}
data = {{ train = "{0}/pairs", val = "{1}", max_eval_samples = 4 }}
train = {{ output_dir = "{0}/out", per_device_train_batch_size = 4, max_steps = {2}, logging_steps = 1 }}
zero = {{ stage = {3} }}
offload = {{ placement = "{4}", nvme_dirs = ["{0}/nvme"], extent_size = "4MiB" }}
checkpoint = {{ save_steps = {6}, save_final = false, export = {5} }}
eval = {{ max_length = 12, eval_steps = {6} }}
)",
        folder_.path(), run.saves ? folder_.file("pairs") : std::string(), steps, run.stage, run.placement, run.saves,
        run.saves ? 1 : 0);
  }

  /// Fresh processes: what another test left in this one does not count.
  void train() const {
    const std::string command =
        fmt::format("{} {} {} {} train {} > {} 2>&1", SPILLWAY_MPIEXEC, SPILLWAY_MPIEXEC_RANKS, GetParam().ranks,
                    SPILLWAY_PROGRAM, folder_.file("run.toml"), folder_.file("log"));
    ASSERT_EQ(std::system(command.c_str()), 0) << text_of(folder_.file("log"));
  }

  void expect_peak_as_planned() const {
    const auto plan = nlohmann::json::parse(text_of(folder_.file("out/plan.json")));
    const auto& peaks = plan.at("peak_bytes_of_one_rank");
    // On the CPU backend device memory is host memory.
    const double planned = peaks.at("device").get<double>() + peaks.at("host").get<double>();
    double found = 0.0;
    std::ifstream metrics(folder_.file("out/metrics.jsonl"));
    for (std::string line; std::getline(metrics, line);)
      found = std::max(found, nlohmann::json::parse(line).value("peak_host_bytes", 0.0));

    EXPECT_NEAR(found, planned, 0.1 * planned) << plan.dump(1);
    std::cout << fmt::format("planned {:.1f} MiB, resident at most {:.1f} MiB\n", planned / 1048576, found / 1048576);
  }

  ScratchDirectory folder_;
};

TEST_P(Memory, ResidentIsWhatTheLedgerSays) {
  write_configuration(2);
  train();
  expect_peak_as_planned();
  if (!GetParam().saves) return;

  std::filesystem::remove(folder_.file("out/metrics.jsonl"));
  write_configuration(3);
  train();
  expect_peak_as_planned();
}

INSTANTIATE_TEST_SUITE_P(Runs, Memory,
                         ::testing::Values(Case{1, 0, "device"}, Case{2, 0, "nvme"}, Case{2, 3, "device"},
                                           Case{2, 3, "nvme", true}));

}  // namespace
}  // namespace spillway::test
