// SPDX-License-Identifier: Apache-2.0
#include "train/best_model.hpp"

#include <gmock/gmock.h>

#include "core/error.hpp"

namespace spillway::train {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

RunState after(std::initializer_list<Evaluation> evaluations) {
  RunState state;
  for (const Evaluation& evaluation : evaluations) {
    ++state.step;
    note_evaluation(state, evaluation);
  }
  return state;
}

Evaluation loss(double value) { return {.loss = value}; }
Evaluation bleu(double value) { return {.loss = 100.0 - value, .bleu = data::Bleu{.score = value}}; }
Evaluation rouge(double rouge_l) { return {.rouge = data::Rouge{.rouge2 = -rouge_l, .rouge_l = rouge_l}}; }

TEST(NoteEvaluation, TheLowestLossIsBest) { EXPECT_EQ(after({loss(3.0), loss(2.0), loss(2.5)}).best_step, 2); }

TEST(NoteEvaluation, TheHighestBleuIsBest) { EXPECT_EQ(after({bleu(10.0), bleu(12.0), bleu(11.0)}).best_step, 2); }

TEST(NoteEvaluation, TheHighestRougeLIsBest) {
  const RunState state = after({rouge(10.0), rouge(12.0), rouge(11.0)});

  EXPECT_EQ(state.best_step, 2);
  EXPECT_EQ(state.best_metric, 12.0);
  EXPECT_EQ(state.best_metric_name, "rougeL");
}

TEST(NoteEvaluation, OfEqualOnesTheFirstIsBest) { EXPECT_EQ(after({bleu(1.0), bleu(1.0)}).best_step, 1); }

TEST(NoteEvaluation, AnotherMetric_BeginsAnew) { EXPECT_EQ(after({bleu(30.0), rouge(1.0)}).best_step, 2); }

RunOptions options(StepInterval save, StepInterval eval) {
  RunOptions made;
  made.data.val = {"val"};
  made.checkpoint.load_best_model_at_end = true;
  made.checkpoint.save_steps = save;
  made.eval.eval_steps = eval;
  return made;
}

TEST(CheckBestModelOptions, ACheckpointOnlyWhereThereIsAnEvaluation) {
  EXPECT_NO_THROW(check_best_model_options(options(6, 3)));
  EXPECT_NO_THROW(check_best_model_options(options(StepInterval::epoch(), StepInterval::epoch())));
  for (const RunOptions& bad : {options(3, 6), options(6, 4), options(6, 0), options(0, 6), options(0, 0),
                                options(StepInterval::epoch(), 6), options(6, StepInterval::epoch())})
    EXPECT_THAT([&] { check_best_model_options(bad); }, ThrowsMessage<ConfigError>(HasSubstr("multiple of")));
}

TEST(CheckBestModelOptions, WithoutIt_AnythingGoes) {
  RunOptions made = options(6, 4);
  made.checkpoint.load_best_model_at_end = false;

  EXPECT_NO_THROW(check_best_model_options(made));
}

}  // namespace
}  // namespace spillway::train
