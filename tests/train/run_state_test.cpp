// SPDX-License-Identifier: Apache-2.0
#include "train/run_state.hpp"

#include <limits>

#include <gmock/gmock.h>

#include "core/error.hpp"

namespace spillway::train {
namespace {

using testing::HasSubstr;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

TEST(RunState, TakesTheBetterMetric) {
  RunState state;
  state.step = 1;
  EXPECT_TRUE(take_if_best(state, "bleu", 10.0, true));
  state.step = 2;
  EXPECT_FALSE(take_if_best(state, "bleu", 9.0, true));
  EXPECT_EQ(state.best_step, 1);
  EXPECT_TRUE(take_if_best(state, "bleu", 11.0, true));
  EXPECT_EQ(state.best_step, 2);
}

TEST(RunState, TakesNoMetricThatIsNotFinite) {
  RunState state;
  EXPECT_FALSE(take_if_best(state, "loss", kNaN, false));
  EXPECT_FALSE(take_if_best(state, "loss", -kInfinity, false));
  EXPECT_EQ(state.best_metric, std::nullopt);
  ASSERT_TRUE(take_if_best(state, "loss", 3.0, false));
  EXPECT_FALSE(take_if_best(state, "loss", kNaN, false));
  EXPECT_EQ(state.best_metric, 3.0);
}

TEST(RunState, DoesNotCompareDifferentMetrics) {
  RunState state;
  ASSERT_TRUE(take_if_best(state, "loss", 3.0, false));
  state.step = 4;

  EXPECT_TRUE(take_if_best(state, "bleu", 1.0, true));

  EXPECT_EQ(state.best_metric, 1.0);
  EXPECT_EQ(state.best_step, 4);
}

TEST(RunState, ReadsWhatItWrote) {
  RunState state;
  state.step = 7;
  state.stopped = true;
  state.contents = {{"tokenizer", "bytes"}};
  state.loss_scale = LossScaler::State{.scale = 2048.0, .step = 9, .last_overflow = 4, .hysteresis = 1};
  ASSERT_TRUE(take_if_best(state, "bleu", 12.5, true));

  const RunState read = run_state_from_json(to_json(state), "here");

  EXPECT_EQ(read.step, 7);
  EXPECT_TRUE(read.stopped);
  EXPECT_EQ(read.loss_scale, state.loss_scale);
  EXPECT_EQ(read.contents, state.contents);
  EXPECT_EQ(read.best_metric, 12.5);
  EXPECT_EQ(read.best_metric_name, "bleu");
}

TEST(RunState, OtherContents_AreRefusedWithBothValues) {
  RunState saved;
  saved.contents = {{"tokenizer", "file of hash 01"}, {"data.train: pairs", "30"}, {"of an older version", "1"}};
  const ContentRecord now = {{"tokenizer", "file of hash 02"}, {"data.train: pairs", "31"}};

  try {
    check_contents(saved, now, false);
    FAIL() << "was taken";
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), HasSubstr("\n  tokenizer: the checkpoint has file of hash 01, this run file of hash 02"));
    EXPECT_THAT(error.what(), HasSubstr("\n  data.train: pairs: the checkpoint has 30, this run 31"));
  }
  EXPECT_NO_THROW(check_contents(saved, now, true));
  EXPECT_NO_THROW(check_contents(saved, saved.contents, false));
}

}  // namespace
}  // namespace spillway::train
