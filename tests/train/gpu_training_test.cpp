// SPDX-License-Identifier: Apache-2.0
// Whole training steps on a GPU: beside the CPU's, and the same bits wherever its state lies.
#include <chrono>
#include <map>
#include <utility>

#include <gtest/gtest.h>

#include "core/error.hpp"
#include "train/gpu_fixture.hpp"
#include "train/long_run.hpp"
#include "train/same_bits_suite.hpp"
#include "train/saved_run.hpp"

namespace spillway::test {
namespace {

class GpuTraining : public GpuTest {
 protected:
  std::vector<double> losses(const Numerics& numerics, Device* device, std::vector<double>* norms = nullptr) {
    train::RunOptions options = training_options(folder_.path());
    set_numerics(options, numerics);
    const auto communicator = comm::make_single_communicator();
    Trainee trainee(options, *communicator, {}, {}, {}, device);
    trainee.run(10);
    if (norms != nullptr) *norms = trainee.gradient_norms();
    return trainee.losses();
  }
  StateHashes hashes(const Numerics& numerics, const Placement& placement) {
    const auto communicator = comm::make_single_communicator();
    return train_placed(folder_.path(), numerics, placement, *communicator, gpu_.get());
  }
};

/// The same masks are dropped, so that only the order of sums and, in bf16, what it rounds to are between them.
TEST_F(GpuTraining, LossesAndNorms_AreThoseOfTheCpu) {
  for (const Numerics& numerics : all_numerics()) {
    SCOPED_TRACE(testing::Message() << numerics);
    const bool exact = numerics.precision == train::Precision::fp32;
    std::vector<double> cpu_norms, gpu_norms;
    const std::vector<double> cpu = losses(numerics, nullptr, &cpu_norms);

    const std::vector<double> gpu = losses(numerics, gpu_.get(), &gpu_norms);

    for (std::size_t step = 0; step < cpu.size(); ++step) {
      EXPECT_NEAR(gpu[step], cpu[step], (exact ? 1e-5 : 1e-2) * cpu[step]) << "step " << step;
      EXPECT_NEAR(gpu_norms[step], cpu_norms[step], (exact ? 1e-4 : 5e-2) * cpu_norms[step]) << "step " << step;
    }
  }
}

TEST_F(GpuTraining, PlacementAndRecomputation_ChangeNoBit) {
  for (const Numerics& numerics : all_numerics()) {
    SCOPED_TRACE(testing::Message() << numerics);
    const StateHashes expected = hashes(numerics, {.stage = 0});
    for (const Placement& placement : placements(1)) {
      if (!can_spread(numerics, placement.spread)) continue;
      EXPECT_EQ(hashes(numerics, placement), expected) << placement;
    }
  }
}

TEST_F(GpuTraining, WhoUpdatesWhatIsOutsideItsMemory_ChangesNoBit) {
  for (const Numerics& numerics : all_numerics()) {
    if (numerics.optimizer != train::OptimizerName::adamw) continue;
    SCOPED_TRACE(testing::Message() << numerics);
    const StateHashes expected = hashes(numerics, {.stage = 0});
    for (const Placement& placement : placements_beside_gpu())
      EXPECT_EQ(hashes(numerics, placement), expected) << placement;
  }
}

/// Files on nvme are real ones: a save reads them while training does.
TEST_F(GpuTraining, SavesBesideTraining_WriteTheBytesOfBlockingOnes_AndChangeNoBit) {
  using train::Precision, train::Saving, train::TierChoice;
  std::vector<Placement> all = placements_beside_gpu();
  for (const HostState state : kAllHostStates) all.push_back({.stage = 0, .host = state});
  all.push_back({.stage = 0});
  all.push_back({.stage = 0, .exp_avg = TierChoice::nvme, .exp_avg_sq = TierChoice::host});
  for (const Numerics& numerics : {Numerics{.precision = Precision::bf16},
                                   {.precision = Precision::bf16, .state_format = train::StateFormat::int8}}) {
    SCOPED_TRACE(testing::Message() << numerics);
    const auto run = [&](const Placement& placement, Saving saving) {
      return run_and_save(folder_.path(), 1, numerics, placement, saving, gpu_.get());
    };
    const SavedRun expected = run({.stage = 0}, Saving::blocking);
    for (const Placement& placement : all)
      for (const Saving saving : {Saving::whole, Saving::in_pieces})
        EXPECT_EQ(run(placement, saving), expected) << placement << (saving == Saving::whole ? "" : ", in pieces");
  }
  const Numerics adafactor{.precision = Precision::bf16, .optimizer = train::OptimizerName::adafactor};
  EXPECT_EQ(run_and_save(folder_.path(), 1, adafactor, {.stage = 0}, Saving::whole, gpu_.get()),
            run_and_save(folder_.path(), 1, adafactor, {.stage = 0}, Saving::blocking, gpu_.get()));
}

TEST_F(GpuTraining, SequencesOf2048Tokens_GiveTheSameBitsWithResidualsInHostMemory) {
  using train::GradientCheckpointing;
  write_long_texts(folder_.path());
  const StateHashes expected = train_long(folder_.path(), GradientCheckpointing::off, {}, gpu_.get());

  EXPECT_EQ(train_long(folder_.path(), GradientCheckpointing::on, {}, gpu_.get()), expected);
  const auto look = [](train::Job& job) {
    EXPECT_EQ(job.plan.host_stages, 4);  // all blocks
    EXPECT_GT(job.plan.ledger.bytes(plan::entry::kHostResiduals, plan::Tier::host), 0U);
  };
  EXPECT_EQ(train_long(folder_.path(), GradientCheckpointing::host, look, gpu_.get()), expected);
}

TEST_F(GpuTraining, ResidualsOfSomeStagesInHostMemory_InGroupsOfSeveralSizes_ChangeNoBit) {
  const train::RunOptions options = training_options(folder_.path());
  const auto communicator = comm::make_single_communicator();
  for (const int group_size : {4, 3, 1}) {  // of four micro-batches
    const auto run = [&](const plan::Shape& shape) {
      const auto replan = [&](train::Job& job) {
        job.plan = plan::plan_of(job.facts, plan::place(job.facts, job.budgets, shape));
      };
      Trainee trainee(options, *communicator, {}, replan, {}, gpu_.get());
      trainee.run(10);
      return std::pair(trainee.hashes(), trainee.losses());
    };
    const auto expected = run({.group_size = group_size});
    for (const auto& [first_kept_stage, host_stages] : {std::pair{3, 2}, {6, 3}, {8, 2}, {8, 4}}) {
      SCOPED_TRACE(testing::Message() << group_size << ", " << first_kept_stage << ", " << host_stages);

      EXPECT_EQ(run({group_size, first_kept_stage, host_stages}), expected);
    }
  }
}

TEST_F(GpuTraining, WeightsGradientsAndAllElseInHostMemory_ChangeNoBit) {
  std::vector<Numerics> all = all_numerics();
  for (const Numerics& numerics : all_numerics())
    if (!numerics.two_groups) {
      all.push_back(numerics);
      all.back().one_batch = true;
    }
  for (const Numerics& numerics : all) {
    SCOPED_TRACE(testing::Message() << numerics);
    const StateHashes expected = hashes(numerics, {.stage = 0});
    for (const HostState state : kAllHostStates) {
      const Placement placement{.stage = 0, .store = train::StoreChoice::memory, .host = state};
      EXPECT_EQ(hashes(numerics, placement), expected) << placement;
    }
  }
}

TEST_F(GpuTraining, InFp16_OverflowsAndUpdatesAreTheSameWithAllInHostMemory) {
  train::RunOptions options = training_options(folder_.path());
  options.train.precision = train::Precision::fp16;
  options.offload.store = train::StoreChoice::memory;
  const auto run = [&](std::optional<HostState> host) {
    const auto communicator = comm::make_single_communicator();
    const auto replan = [&](train::Job& job) {
      if (host) move_to_host(job, *host, {.group_size = job.plan.program.group_size});
    };
    Trainee trainee(options, *communicator, {}, replan, {}, gpu_.get());
    std::vector<int> overflows;
    for (int step = 0; step < 6; ++step) {
      const train::StepResult result = trainee.step(step % 3 == 1 ? 0x1p60 : 1024.0);
      overflows.push_back(result.overflow ? result.overflow->unit : -1);
    }
    return std::pair(overflows, trainee.hashes());
  };
  const auto expected = run({});
  ASSERT_GE(expected.first[1], 0);
  ASSERT_EQ(expected.first[2], -1);

  for (const HostState state : kAllHostStates) EXPECT_EQ(run(state), expected) << state;
}

TEST_F(GpuTraining, ATraceHasTheGpusTimes_InsideTheStepsThatItShows) {
  train::RunOptions options = training_options(folder_.path());
  options.report = {.trace = true, .trace_first = 2, .trace_last = 3};
  const auto communicator = comm::make_single_communicator();
  Trainee trainee(options, *communicator, {}, {}, {}, gpu_.get());
  trainee.run(5);
  trainee.engine().finish_update();
  train::Trace& trace = *trainee.engine().trace();

  trace.finish();

  const std::chrono::microseconds slack(200);  // between two clocks
  std::map<std::int64_t, std::pair<train::Trace::Clock::time_point, train::Trace::Clock::time_point>> steps;
  for (const train::TraceSpan& span : trace.spans())
    if (!span.op && span.name.starts_with("step ")) steps[span.step] = {span.begin, span.end};
  ASSERT_EQ(steps.size(), 2U);
  int forward = 0, updates = 0;
  for (const train::TraceSpan& span : trace.spans()) {
    if (span.row == train::TraceRow::main) continue;
    EXPECT_GE(span.end, span.begin) << span.name;
    EXPECT_GE(span.begin + slack, steps.at(span.step).first) << span.name;
    if (span.row == train::TraceRow::compute) {
      EXPECT_LE(span.end, steps.at(span.step).second + slack) << span.name;
    }
    if (span.row == train::TraceRow::update) ++updates;
    if (span.op->kind != plan::OpKind::forward) continue;
    ++forward;
    EXPECT_GT(span.end, span.begin) << span.name;
  }
  EXPECT_GT(forward, 0);
  EXPECT_EQ(updates, 2 * trainee.job().map->units());
  for (const train::Activity activity : {train::Activity::h2d, train::Activity::d2h})
    EXPECT_GT(trainee.engine().clock().seconds(activity), 0.0);
  EXPECT_GE(trainee.engine().clock().seconds(train::Activity::compute), 0.0);
}

TEST_F(GpuTraining, WhatDoesNotFitItsBudget_IsRefusedBeforeAnythingIsAllocated) {
  train::RunOptions options = training_options(folder_.path());
  options.memory.device = std::uint64_t{64} << 20;
  const auto communicator = comm::make_single_communicator();

  EXPECT_THROW(Trainee(options, *communicator, {}, {}, {}, gpu_.get()), std::exception);
}

}  // namespace
}  // namespace spillway::test
