// SPDX-License-Identifier: Apache-2.0
// What runs say of the time and the bytes that their steps took, beside their plans.
#include <fstream>
#include <vector>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "core/log.hpp"
#include "support/scratch_directory.hpp"
#include "support/thread_ranks.hpp"
#include "train/run_accounting.hpp"
#include "train/trainee.hpp"
#include "train/trainer.hpp"

namespace spillway::test {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

json json_of(const std::string& path) { return json::parse(std::ifstream(path)); }

/// Lines of metrics about steps.
std::vector<json> lines_of(const std::string& path) {
  std::vector<json> lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);)
    if (json object = json::parse(line); object.contains("seconds_per_step")) lines.push_back(std::move(object));
  return lines;
}

class Accounting : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    log::quiet();
    write_training_folder(folder_.path());
    options_ = training_options(folder_.path());
    options_.train.logging_steps = 4;
    options_.offload.exp_avg = options_.offload.exp_avg_sq = train::TierChoice::nvme;
    options_.offload.store = train::StoreChoice::memory;
  }
  void train() const {
    run_on_thread_ranks(GetParam(), [&](comm::Communicator& communicator) {
      const auto device = make_host_device();
      train::Runtime runtime{
          .device = *device, .communicator = communicator, .nodes = comm::NodeLayout::filled(1, GetParam())};
      train::train({.options = options_, .config = {}}, runtime);
    });
  }
  [[nodiscard]] json accounting() const { return json_of(folder_.file("out/all_results.json")).at("accounting"); }

  ScratchDirectory folder_;
  train::RunOptions options_;
};

INSTANTIATE_TEST_SUITE_P(Ranks, Accounting, ::testing::Values(1, 2));

TEST_P(Accounting, BytesOfDrives_AreThoseOfThePlan_WhateverEvaluationsAndCheckpointsRead) {
  if (folder_.in_memory()) GTEST_SKIP() << "the working directory is a tmpfs, which offload refuses";
  options_.offload.store = train::StoreChoice::posix;  // it pads extents as the plan does
  options_.data.val = {folder_.file("pairs")};
  options_.data.max_eval_samples = 4;
  options_.eval.eval_steps = 3;
  options_.eval.predict_with_generate = false;
  options_.checkpoint.save_steps = 3;

  train();

  const json plan = json_of(folder_.file("out/plan.json")).at("bytes_per_step_at_most");
  const json found = accounting().at("resources");
  for (const char* way : {"nvme_read", "nvme_write"})
    EXPECT_DOUBLE_EQ(found.at(way).at("measured").at("bytes").get<double>(), plan.at(way).get<double>()) << way;
  EXPECT_DOUBLE_EQ(found.at("nvme_both").at("measured").at("bytes").get<double>(),
                   plan.at("nvme_read").get<double>() + plan.at("nvme_write").get<double>());
  EXPECT_FALSE(found.contains("pcie_up")) << "there is no such link";
}

TEST_P(Accounting, TimesAndMemory_AreThoseOfTheLines) {
  train();

  const std::vector<json> lines = lines_of(folder_.file("out/metrics.jsonl"));  // after steps 4, 8 and 10
  ASSERT_EQ(lines.size(), 3U);
  const auto mean = [&](const auto& value) { return (4.0 * value(lines[1]) + 2.0 * value(lines[2])) / 6.0; };
  const json found = accounting();
  EXPECT_EQ(found.at("steps"), 6);
  EXPECT_NEAR(found.at("seconds_per_step").at("measured").get<double>(),
              mean([](const json& line) { return line.at("seconds_per_step").get<double>(); }), 1e-9);
  for (const char* resource : {"compute", "cpu_update"}) {
    const auto busy = [&](const json& line) {
      return line.at("resources").at(resource).at("busy_seconds").get<double>();
    };
    EXPECT_GT(busy(lines[1]), 0.0);
    EXPECT_NEAR(found.at("resources").at(resource).at("measured").at("busy_seconds").get<double>(), mean(busy), 1e-9);
  }
  const json memory = found.at("memory_bytes").at("host");
  EXPECT_EQ(memory.at("measured"), lines[2].at("peak_host_bytes"));
  const json peaks = json_of(folder_.file("out/plan.json")).at("peak_bytes_of_one_rank");
  EXPECT_EQ(memory.at("planned").get<double>(), peaks.at("host").get<double>() + peaks.at("device").get<double>());
  EXPECT_EQ(found.at("stall_seconds").size(), 6U);
}

/// Lines as a GPU's run has them.
train::StepMetrics line_of(double step_seconds, double waited, double up_bytes) {
  train::StepMetrics line{.steps = 10, .seconds_per_step = step_seconds};
  line.clock.add(train::Activity::cpu_update, 10.0 * waited);
  line.clock.add(train::Activity::compute, 10.0 * (step_seconds - waited));
  line.resources.use(plan::Resource::compute).busy_seconds = step_seconds - waited;
  line.resources.use(plan::Resource::pcie_up).bytes = up_bytes;
  return line;
}

TEST(RunAccounting, TheFirstLinesTimes_CountOnlyWhileThereIsNoOther_ItsBytesAlways) {
  const train::Job job;
  train::RunAccounting accounting(job);

  accounting.add(line_of(9.0, 1.0, 100.0));
  const json first = json::parse(accounting.json());
  accounting.add(line_of(1.0, 0.75, 200.0));
  const json both = json::parse(accounting.json());

  EXPECT_DOUBLE_EQ(first.at("seconds_per_step").at("measured"), 9.0);
  EXPECT_EQ(first.at("most_time_in"), "compute");
  EXPECT_DOUBLE_EQ(both.at("seconds_per_step").at("measured"), 1.0);
  EXPECT_DOUBLE_EQ(both.at("stall_seconds").at("cpu_update"), 0.75);
  EXPECT_EQ(both.at("most_time_in"), "cpu_update");
  EXPECT_DOUBLE_EQ(both.at("resources").at("pcie_up").at("measured").at("bytes"), 150.0);
}

TEST(RunAccounting, TheTable_SetsTheMeasuredBesideThePlan) {
  train::Job job;
  plan::Prediction prediction{.seconds = 0.8};
  prediction.resources[static_cast<std::size_t>(plan::Resource::pcie_up)] = {.busy_seconds = 0.5, .bytes = 4096.0};
  job.prediction = prediction;
  train::RunAccounting accounting(job);
  EXPECT_TRUE(accounting.empty());

  accounting.add(line_of(1.0, 0.75, 2048.0));

  EXPECT_THAT(accounting.text(),
              AllOf(HasSubstr("the mean of 10 steps"), HasSubstr("0.800 s      1.000 s  +25.0 %"),
                    HasSubstr("4.00 KiB     2.00 KiB  -50.0 %"), HasSubstr("waits for: updates 0.750 s"),
                    HasSubstr("most of the time: updates; busiest in the plan: PCIe to the GPU")));
  EXPECT_THAT(accounting.text(), Not(HasSubstr("drives")));
}

}  // namespace
}  // namespace spillway::test
