// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <filesystem>
#include <map>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "core/error.hpp"
#include "core/log.hpp"
#include "support/scratch_directory.hpp"
#include "support/thread_ranks.hpp"
#include "train/run_results.hpp"
#include "train/same_bits_suite.hpp"
#include "train/trainee.hpp"
#include "train/trainer.hpp"

namespace spillway::test {
namespace {

using train::RunOptions;
using train::TierChoice;

constexpr int kSteps = 10;

/// The whole command `train` on thread ranks, from a checkpoint if the options name one, to its end.
void train_to_the_end(const RunOptions& options, int ranks, int nodes = 1) {
  run_on_thread_ranks(ranks, [&](comm::Communicator& communicator) {
    const auto device = make_host_device();
    train::Runtime runtime{
        .device = *device, .communicator = communicator, .nodes = comm::NodeLayout::filled(nodes, ranks / nodes)};
    const train::TrainRequest request{.options = options, .config = {}};
    EXPECT_EQ(train::train(request, runtime), train::Outcome::finished);
  });
}

struct Case {
  int ranks;
  int stage;
  TierChoice moments;
  Numerics numerics = {};
  int nodes = 1;
};

class Resume : public ::testing::Test {
 protected:
  void SetUp() override {
    if (folder_.in_memory()) GTEST_SKIP() << "the working directory is a tmpfs, which offload refuses";
    log::quiet();
    write_training_folder(folder_.path());
  }

  RunOptions options(const Case& test_case, const std::string& output) const {
    RunOptions result = training_options(folder_.path());
    // Epochs of 8 steps with a last batch of 2, so that 10 steps cross an epoch, and 5 samples leave places of 3 ranks empty.
    result.train.global_batch_size = 5;
    result.train.output_dir = folder_.file(output);
    result.zero.stage = test_case.stage;
    result.optimizer.learning_rate = 1e-2;  // the curve falls from 6.3 to 3.6
    set_numerics(result, test_case.numerics);
    if (test_case.nodes > 1) result.zero.shard_group = train::ShardGroup::node;
    result.offload.placement = test_case.moments;
    result.checkpoint.save_steps = 1;
    result.checkpoint.save_total_limit = 0;
    return result;
  }

  /// The same again, from a checkpoint of another run, saving only at its end.
  RunOptions resumed_from(const RunOptions& run, int step, const Case& test_case) {
    RunOptions result = options(test_case, fmt::format("resumed-{}", ++resumed_));
    result.checkpoint.resume = checkpoint_of(run, step);
    result.checkpoint.save_steps = 0;
    result.checkpoint.save_final = true;
    return result;
  }

  ScratchDirectory folder_;
  int resumed_ = 0;
};

TEST_F(Resume, AfterAKillAtAnyStep_GivesTheBitsOfNotHavingStopped) {
  for (const Case& run : {Case{2, 3, TierChoice::nvme}, Case{2, 0, TierChoice::device}, Case{1, 3, TierChoice::nvme},
                          Case{3, 3, TierChoice::host}}) {
    SCOPED_TRACE(fmt::format("{} ranks, stage {}", run.ranks, run.stage));
    const RunOptions whole = options(run, fmt::format("whole-{}-{}", run.ranks, run.stage));
    train_to_the_end(whole, run.ranks);
    const StateHashes expected = hashes_of(checkpoint_of(whole, kSteps));

    for (const int killed_at : {1, 4, 7, 8}) {
      SCOPED_TRACE(fmt::format("killed at step {}", killed_at));
      const RunOptions resumed = resumed_from(whole, killed_at, run);
      train_to_the_end(resumed, run.ranks);

      EXPECT_EQ(hashes_of(checkpoint_of(resumed, kSteps)), expected);
      EXPECT_EQ(losses_of(resumed).begin()->first, killed_at + 1);
      for (const auto& [step, loss] : losses_of(resumed)) EXPECT_EQ(loss, losses_of(whole).at(step)) << step;
    }
  }
}

TEST_F(Resume, WithEveryKindOfState_GivesTheBitsOfNotHavingStopped) {
  std::vector<Case> runs;
  for (const Numerics& numerics : all_numerics())
    if (!numerics.two_groups) runs.push_back({2, 3, TierChoice::device, numerics});
  Numerics frozen{.precision = train::Precision::bf16, .freeze_encoder = true};
  runs.push_back({2, 1, TierChoice::device, frozen});
  for (const train::OptimizerName optimizer : {train::OptimizerName::adamw, train::OptimizerName::adafactor})
    runs.push_back({4, 3, TierChoice::device, {.precision = train::Precision::bf16, .optimizer = optimizer}, 2});
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const Case& run = runs[i];
    SCOPED_TRACE(testing::PrintToString(run.numerics));
    const RunOptions whole = options(run, fmt::format("kinds-{}", i));
    train_to_the_end(whole, run.ranks, run.nodes);

    const RunOptions resumed = resumed_from(whole, 4, run);
    train_to_the_end(resumed, run.ranks, run.nodes);

    EXPECT_EQ(hashes_of(checkpoint_of(resumed, kSteps)), hashes_of(checkpoint_of(whole, kSteps)));
    for (const auto& [step, loss] : losses_of(resumed)) EXPECT_EQ(loss, losses_of(whole).at(step)) << step;
  }
}

TEST_F(Resume, WithOtherStagesAndTiers_GivesTheSameBitsToo) {
  const RunOptions whole = options({2, 3, TierChoice::nvme}, "whole");
  train_to_the_end(whole, 2);

  const RunOptions resumed = resumed_from(whole, 4, {2, 0, TierChoice::host});
  train_to_the_end(resumed, 2);

  EXPECT_EQ(hashes_of(checkpoint_of(resumed, kSteps)), hashes_of(checkpoint_of(whole, kSteps)));
}

/// Expects the losses of all steps from `first` on, and that they are those of another run to a part in ten thousand.
void expect_curve(const RunOptions& run, int first, const std::map<int, double>& expected) {
  const auto found = losses_of(run);
  ASSERT_EQ(found.size(), static_cast<std::size_t>(kSteps - first + 1));
  EXPECT_EQ(found.begin()->first, first);
  for (const auto& [step, loss] : found)
    EXPECT_NEAR(loss, expected.at(step), 1e-4 * expected.at(step)) << "step " << step;
}

TEST_F(Resume, AtAnotherRankCountAndStage_ContinuesTheCurve) {
  for (const auto& [from, to] : {std::pair{Case{1, 0, TierChoice::device}, Case{2, 3, TierChoice::nvme}},
                                 {Case{2, 3, TierChoice::nvme}, Case{3, 0, TierChoice::host}},
                                 {Case{3, 0, TierChoice::device}, Case{1, 3, TierChoice::nvme}},
                                 {Case{2, 0, TierChoice::device}, Case{1, 1, TierChoice::device}},
                                 {Case{3, 3, TierChoice::nvme}, Case{4, 2, TierChoice::device}}}) {
    SCOPED_TRACE(fmt::format("{} ranks, stage {}, to {} ranks, stage {}", from.ranks, from.stage, to.ranks, to.stage));
    const RunOptions whole = options(from, fmt::format("from-{}-{}", from.ranks, from.stage));
    train_to_the_end(whole, from.ranks);

    const RunOptions resumed = resumed_from(whole, 4, to);
    train_to_the_end(resumed, to.ranks);

    expect_curve(resumed, 5, losses_of(whole));
  }
}

TEST_F(Resume, AgainAndAgainAtOtherRankCounts_StaysOnTheCurve) {
  const RunOptions whole = options({1, 0, TierChoice::device}, "whole");
  train_to_the_end(whole, 1);
  const auto expected = losses_of(whole);

  RunOptions run = whole;
  int at = 2;
  for (const Case& next : {Case{2, 3, TierChoice::nvme}, Case{3, 0, TierChoice::device}, Case{1, 3, TierChoice::host},
                           Case{2, 1, TierChoice::nvme}}) {
    SCOPED_TRACE(fmt::format("{} ranks, stage {}, from step {}", next.ranks, next.stage, at));
    run = resumed_from(run, at, next);
    run.checkpoint.save_steps = 1;
    train_to_the_end(run, next.ranks);

    expect_curve(run, at + 1, expected);
    at += 2;
  }
}

TEST_F(Resume, WithMomentsInAnotherFormat_ContinuesTheCurve) {
  using train::StateFormat;
  const std::vector<StateFormat> formats = {StateFormat::fp32, StateFormat::bf16, StateFormat::int8};
  for (const StateFormat from : formats)
    for (const StateFormat to : formats) {
      if (from == to) continue;
      SCOPED_TRACE(fmt::format("{} to {}", static_cast<int>(from), static_cast<int>(to)));
      const Case before{2, 3, TierChoice::device, {.state_format = from}},
          after{3, 1, TierChoice::nvme, {.state_format = to}};
      const RunOptions whole =
          options(before, fmt::format("format-{}-{}", static_cast<int>(from), static_cast<int>(to)));
      train_to_the_end(whole, before.ranks);

      const RunOptions resumed = resumed_from(whole, 4, after);
      train_to_the_end(resumed, after.ranks);

      expect_curve(resumed, 5, losses_of(whole));
    }
}

TEST_F(Resume, FromAnotherModel_NamesTheTensor) {
  const RunOptions first = options({2, 3, TierChoice::device}, "first");
  train_to_the_end(first, 2);
  write_training_folder(folder_.path(), {.d_ff = 128});

  try {
    RunOptions other = resumed_from(first, 4, {2, 3, TierChoice::device});
    other.checkpoint.allow_changes = true;  // of the model's constants; its tensors must fit all the same
    train_to_the_end(other, 2);
    FAIL() << "resumed from a checkpoint of another model";
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::data);
    EXPECT_NE(std::string(error.what())
                  .find("encoder.block.0.layer.1.DenseReluDense.wi_0.weight: expected (128, 32), "
                        "found (64, 32)"),
              std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace spillway::test
