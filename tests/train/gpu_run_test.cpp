// SPDX-License-Identifier: Apache-2.0
// The whole command `train` on a GPU: evaluation in the middle, saving and resuming, there and from the CPU, and fp16's overflows.
#include <cmath>
#include <limits>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "core/log.hpp"
#include "train/gpu_fixture.hpp"
#include "train/run_results.hpp"
#include "train/trainee.hpp"
#include "train/trainer.hpp"

namespace spillway::test {
namespace {

using train::OptimizerName;
using train::OptimizerPlace;
using train::Precision;
using train::RunOptions;
using train::TierChoice;

constexpr int kSteps = 10;

class GpuRun : public GpuTest {
 protected:
  RunOptions options(const std::string& output, Precision precision) const {
    RunOptions result = training_options(folder_.path());
    result.train.output_dir = folder_.file(output);
    result.train.precision = precision;
    result.checkpoint.save_steps = 1;
    result.checkpoint.save_total_limit = 0;
    return result;
  }

  static void train_on(Device& device, const RunOptions& options) {
    log::quiet();
    const auto communicator = comm::make_single_communicator();
    train::Runtime runtime{.device = device, .communicator = *communicator, .nodes = comm::NodeLayout::filled(1, 1)};
    EXPECT_EQ(train::train({.options = options, .config = {}}, runtime), train::Outcome::finished);
  }

  /// The same again from a checkpoint of `run`.
  RunOptions resumed(const RunOptions& run, int step) const {
    RunOptions result = run;
    result.train.output_dir = run.train.output_dir + "-resumed";
    result.checkpoint.resume = checkpoint_of(run, step);
    return result;
  }
};

TEST_F(GpuRun, Resumed_GivesTheBitsOfNotHavingStopped) {
  struct Case {
    Precision precision;
    OptimizerName optimizer;
    TierChoice moments;
    TierChoice weight = TierChoice::device;
    OptimizerPlace place = OptimizerPlace::automatic;
  };
  int number = 0;
  for (const Case& run :
       {Case{Precision::fp32, OptimizerName::adamw, TierChoice::device},
        Case{Precision::bf16, OptimizerName::adamw, TierChoice::host},
        Case{Precision::bf16, OptimizerName::adamw, TierChoice::nvme},
        Case{Precision::bf16, OptimizerName::adamw, TierChoice::host, TierChoice::device, OptimizerPlace::cpu},
        Case{Precision::bf16, OptimizerName::adamw, TierChoice::nvme, TierChoice::device, OptimizerPlace::cpu},
        Case{Precision::fp16, OptimizerName::adamw, TierChoice::host, TierChoice::device, OptimizerPlace::split},
        Case{Precision::bf16, OptimizerName::adafactor, TierChoice::device},
        Case{Precision::fp16, OptimizerName::adamw, TierChoice::device},
        Case{Precision::bf16, OptimizerName::adamw, TierChoice::host, TierChoice::host},
        Case{Precision::bf16, OptimizerName::adamw, TierChoice::host, TierChoice::host, OptimizerPlace::cpu},
        Case{Precision::fp32, OptimizerName::adafactor, TierChoice::device, TierChoice::host},
        Case{Precision::fp16, OptimizerName::adamw, TierChoice::host, TierChoice::host}}) {
    if (run.moments == TierChoice::nvme && folder_.in_memory()) continue;  // offload refuses a tmpfs
    SCOPED_TRACE(fmt::format("case {}", number));
    RunOptions whole = options(fmt::format("run-{}", number++), run.precision);
    whole.optimizer.name = run.optimizer;
    whole.offload.weight = run.weight;
    if (run.precision != Precision::fp32) whole.offload.master = run.weight;
    whole.offload.optimizer_on = run.place;
    if (run.optimizer == OptimizerName::adamw) whole.offload.exp_avg = whole.offload.exp_avg_sq = run.moments;
    train_on(*gpu_, whole);

    const RunOptions again = resumed(whole, 4);
    train_on(*gpu_, again);

    EXPECT_EQ(hashes_of(checkpoint_of(again, kSteps)), hashes_of(checkpoint_of(whole, kSteps)));
    for (const auto& [step, loss] : losses_of(again)) EXPECT_EQ(loss, losses_of(whole).at(step)) << step;
  }
}

TEST_F(GpuRun, FromTheCpusCheckpoint_ContinuesItsCurve) {
  const auto host = make_host_device();
  const RunOptions whole = options("whole", Precision::fp32);
  train_on(*host, whole);

  const RunOptions again = resumed(whole, 4);
  train_on(*gpu_, again);

  const auto expected = losses_of(whole), found = losses_of(again);
  ASSERT_EQ(found.size(), static_cast<std::size_t>(kSteps - 4));
  for (const auto& [step, loss] : found) EXPECT_NEAR(loss, expected.at(step), 1e-4 * expected.at(step)) << step;
}

TEST_F(GpuRun, EvaluationAndGenerationInTheMiddle_ChangeNoBitOfTheTraining) {
  const RunOptions plain = options("plain", Precision::bf16);
  train_on(*gpu_, plain);

  RunOptions evaluated = options("evaluated", Precision::bf16);
  evaluated.data.val = {folder_.path() + "/pairs"};
  evaluated.eval.eval_steps = 3;
  evaluated.eval.max_length = 12;
  train_on(*gpu_, evaluated);
  RunOptions away = evaluated;
  away.train.output_dir = folder_.file("away");
  away.train.gradient_checkpointing = train::GradientCheckpointing::host;
  train_on(*gpu_, away);

  EXPECT_EQ(hashes_of(checkpoint_of(evaluated, kSteps)), hashes_of(checkpoint_of(plain, kSteps)));
  EXPECT_EQ(hashes_of(checkpoint_of(away, kSteps)), hashes_of(checkpoint_of(plain, kSteps)));
  // Generation with streamed weights records no graph, and gives the same tokens.
  RunOptions streamed = evaluated;
  streamed.train.output_dir = folder_.file("streamed");
  streamed.offload.placement = TierChoice::host;
  train_on(*gpu_, streamed);
  EXPECT_EQ(hashes_of(checkpoint_of(streamed, kSteps)), hashes_of(checkpoint_of(plain, kSteps)));
  EXPECT_EQ(evaluation_losses_of(streamed), evaluation_losses_of(evaluated));
  const auto evaluations = evaluation_losses_of(evaluated);
  ASSERT_EQ(evaluations.size(), 4U);  // after 3, 6, 9 and all steps
  EXPECT_LT(evaluations.at(kSteps), evaluations.at(3));
}

TEST_F(GpuRun, AnOverflowInFp16_UpdatesNothing_AndNamesItsUnit) {
  constexpr double kTooLarge = 0x1p60;  // f16 ends at 65504
  for (const OptimizerPlace place : {OptimizerPlace::automatic, OptimizerPlace::cpu, OptimizerPlace::split}) {
    SCOPED_TRACE(static_cast<int>(place));
    RunOptions fp16 = training_options(folder_.path());
    fp16.train.precision = Precision::fp16;
    fp16.offload.optimizer_on = place;
    if (place != OptimizerPlace::automatic) fp16.offload.exp_avg = fp16.offload.exp_avg_sq = TierChoice::host;
    const auto communicator = comm::make_single_communicator();
    Trainee trainee(fp16, *communicator, {}, {}, {}, gpu_.get());
    ASSERT_FALSE(trainee.step(1024.0).overflow);
    const StateHashes before = trainee.hashes();

    const train::StepResult result = trainee.step(kTooLarge);

    ASSERT_TRUE(result.overflow);
    EXPECT_FALSE(result.overflow->forward);
    EXPECT_EQ(result.overflow->unit, trainee.job().layout->units() - 1);
    EXPECT_EQ(trainee.hashes(), before);
    EXPECT_FALSE(trainee.step(1024.0).overflow);
    EXPECT_NE(trainee.hashes(), before);
  }
}

TEST_F(GpuRun, AnOverflowForwardInFp16_IsFound_WhereResidualsAreInHostMemoryToo) {
  for (const auto checkpointing : {train::GradientCheckpointing::off, train::GradientCheckpointing::host}) {
    RunOptions fp16 = training_options(folder_.path());
    fp16.train.precision = Precision::fp16;
    fp16.train.gradient_checkpointing = checkpointing;
    const auto communicator = comm::make_single_communicator();
    Trainee trainee(fp16, *communicator, {}, {}, {}, gpu_.get());
    const int unit = trainee.job().layout->encoder_unit(1);
    const std::int64_t owned = trainee.job().zero.owned(unit).size();
    const std::vector<float> infinite(static_cast<std::size_t>(owned), std::numeric_limits<float>::infinity());
    trainee.engine().state().write("master", unit, {0, owned}, infinite);
    trainee.engine().weights_changed();

    const train::StepResult result = trainee.step(1024.0);

    ASSERT_TRUE(result.overflow);
    EXPECT_TRUE(result.overflow->forward);
    EXPECT_EQ(result.overflow->unit, unit);
  }
}

}  // namespace
}  // namespace spillway::test
