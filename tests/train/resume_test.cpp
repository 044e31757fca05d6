// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <filesystem>

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
    set_numerics(result, test_case.numerics);
    if (test_case.nodes > 1) result.zero.shard_group = train::ShardGroup::node;
    result.offload.placement = test_case.moments;
    result.checkpoint.save_steps = 1;
    result.checkpoint.save_total_limit = 0;
    return result;
  }

  /// The same again, from a checkpoint of another run, saving only at its end.
  RunOptions resumed_from(const RunOptions& run, int step, const Case& test_case) const {
    RunOptions result = options(test_case, fmt::format("resumed-{}-{}-{}", test_case.ranks, test_case.stage, step));
    result.checkpoint.resume = checkpoint_of(run, step);
    result.checkpoint.save_steps = 0;
    result.checkpoint.save_final = true;
    return result;
  }

  ScratchDirectory folder_;
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

    RunOptions resumed = resumed_from(whole, 4, run);
    resumed.train.output_dir = folder_.file(fmt::format("kinds-{}-resumed", i));
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

TEST_F(Resume, AtAnotherRankCount_ContinuesTheCurve) {
  const RunOptions whole = options({2, 3, TierChoice::nvme}, "whole");
  train_to_the_end(whole, 2);

  for (const int ranks : {1, 3}) {
    SCOPED_TRACE(fmt::format("resumed on {} ranks", ranks));
    const RunOptions resumed = resumed_from(whole, 4, {ranks, 3, TierChoice::nvme});
    train_to_the_end(resumed, ranks);

    const auto expected = losses_of(whole);
    const auto found = losses_of(resumed);
    ASSERT_EQ(found.size(), static_cast<std::size_t>(kSteps - 4));
    for (const auto& [step, loss] : found)
      EXPECT_NEAR(loss, expected.at(step), 1e-4 * expected.at(step)) << "step " << step;
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
