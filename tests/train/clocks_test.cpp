// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <fstream>
#include <limits>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/log.hpp"
#include "support/scratch_directory.hpp"
#include "support/thread_ranks.hpp"
#include "train/trainee.hpp"
#include "train/trainer.hpp"

namespace spillway::test {
namespace {

struct Times {
  double clocks = 0.0, steps = 0.0;
  int lines = 0;
  [[nodiscard]] double unaccounted() const { return std::abs(steps - clocks) / steps; }
};

/// What a run's metrics.jsonl says: the sum of all clocks, and how long the steps took.
Times times_of(const std::string& metrics) {
  Times times;
  std::ifstream file(metrics);
  for (std::string line; std::getline(file, line); ++times.lines) {
    const auto object = nlohmann::json::parse(line);
    times.steps += object.at("seconds_per_step").get<double>();
    times.clocks += object.at("compute_seconds").get<double>() + object.at("data_seconds").get<double>();
    for (const auto& [name, seconds] : object.at("stall_seconds").items()) times.clocks += seconds.get<double>();
  }
  return times;
}

class Clocks : public ::testing::TestWithParam<int> {};

TEST_P(Clocks, AddUpToTheSteps) {
  log::quiet();
  const ScratchDirectory folder;
  write_training_folder(folder.path(), {.d_model = 128, .d_kv = 32, .heads = 4, .d_ff = 1024, .layers = 4}, 37, 20);
  train::RunOptions options = training_options(folder.path());
  options.train.max_steps = 4;
  options.train.per_device_train_batch_size = 4;
  options.train.global_batch_size = 16;
  options.offload.placement = train::TierChoice::nvme;
  options.offload.store = train::StoreChoice::memory;
  options.offload.extent_size = 65536;

  // Other processes may hold this one up between two clocks: the best of three.
  double best = std::numeric_limits<double>::max();
  for (int attempt = 0; attempt < 3 && best > 0.03; ++attempt) {
    options.train.output_dir = folder.file("out-" + std::to_string(attempt));
    run_on_thread_ranks(GetParam(), [&](comm::Communicator& communicator) {
      const auto device = make_host_device();
      train::Runtime runtime{
          .device = *device, .communicator = communicator, .nodes = comm::NodeLayout::filled(1, GetParam())};
      train::train({.options = options, .config = {}}, runtime);
    });
    const Times times = times_of(options.train.output_dir + "/metrics.jsonl");
    ASSERT_EQ(times.lines, options.train.max_steps);
    ASSERT_GT(times.steps / times.lines, 0.02) << "steps too short to measure";
    best = std::min(best, times.unaccounted());
    std::cout << times.steps / times.lines << " s a step, " << 100.0 * times.unaccounted() << " % unaccounted\n";
  }

  EXPECT_LE(best, 0.03);
}

INSTANTIATE_TEST_SUITE_P(Ranks, Clocks, ::testing::Values(1, 2));

}  // namespace
}  // namespace spillway::test
