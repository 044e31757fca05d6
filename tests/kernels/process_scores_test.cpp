// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>
#include <vector>

#include <gmock/gmock.h>

#include "core/error.hpp"
#include "core/philox.hpp"
#include "kernels/cpu/cpu_kernels.hpp"
#include "kernels/cpu/thread_pool.hpp"
#include "kernels/generation_ops.hpp"
#include "kernels/kernel_fixtures.hpp"

namespace spillway::kernels {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

constexpr float kForbidden = -std::numeric_limits<float>::infinity();

class ProcessScoresTest : public testing::Test {
 protected:
  /// One row of scores; every row's token j is tokens[j].
  std::vector<float> processed(std::vector<float> scores, std::vector<std::int32_t> tokens, ProcessScores op) {
    std::vector<std::int32_t> ancestry(tokens.size(), 0);
    const auto length = static_cast<std::int64_t>(tokens.size());
    op.rows = 1;
    op.capacity = length;
    op.position = test::at_position(length - 1);
    op.tokens = {std::span<const std::int32_t>(tokens), {1, length}};
    op.ancestry = {std::span<const std::int32_t>(ancestry), {1, length}};
    op.scores = {std::span(scores), {1, static_cast<std::int64_t>(scores.size())}};
    ops_->process_scores(*queue_, op);
    return scores;
  }

  std::unique_ptr<GenerationOps> ops_ = cpu::make_generation_ops(std::make_shared<cpu::ThreadPool>(2));
  std::unique_ptr<Device> host_ = make_host_device();
  std::unique_ptr<Queue> queue_ = host_->create_compute_queue();
};

TEST_F(ProcessScoresTest, RepetitionPenalty_MakesWhatWasSeenLessLikelyOnceEach) {
  const auto scores = processed({-2.0F, -1.0F, 4.0F, 0.0F, 8.0F}, {0, 2, 0, 2, 3}, {.repetition_penalty = 2.0F});

  EXPECT_THAT(scores, ElementsAre(-4.0F, -1.0F, 2.0F, 0.0F, 8.0F));
}

TEST_F(ProcessScoresTest, RepetitionPenaltyBelowOne_MakesItMoreLikely) {
  const auto scores = processed({-2.0F, 4.0F}, {0, 1}, {.repetition_penalty = 0.5F});

  EXPECT_THAT(scores, ElementsAre(-1.0F, 8.0F));
}

TEST_F(ProcessScoresTest, WhatIsForbidden_StaysForbidden) {
  const auto scores = processed({kForbidden, 1.0F}, {0}, {.repetition_penalty = 1.3F});

  EXPECT_THAT(scores, ElementsAre(kForbidden, 1.0F));
}

TEST_F(ProcessScoresTest, Ngrams_ForbidWhatFollowedTheSameTokensBefore) {
  const std::vector<float> scores(6, 1.0F);
  // 4 and 5 came after 3, and 4 after 5 3.
  const std::vector<std::int32_t> tokens = {0, 5, 3, 4, 3, 5, 3};

  EXPECT_THAT(processed(scores, tokens, {.no_repeat_ngram_size = 2}),
              ElementsAre(1.0F, 1.0F, 1.0F, 1.0F, kForbidden, kForbidden));
  EXPECT_THAT(processed(scores, tokens, {.no_repeat_ngram_size = 3}),
              ElementsAre(1.0F, 1.0F, 1.0F, 1.0F, kForbidden, 1.0F));
  EXPECT_THAT(processed(scores, tokens, {.no_repeat_ngram_size = 4}), Each(1.0F));
}

TEST_F(ProcessScoresTest, SingleTokens_MayNotComeTwiceTheStartTokenIncluded) {
  EXPECT_THAT(processed({1.0F, 1.0F, 1.0F, 1.0F}, {0, 2, 2}, {.no_repeat_ngram_size = 1}),
              ElementsAre(kForbidden, 1.0F, kForbidden, 1.0F));
}

TEST_F(ProcessScoresTest, NgramsLongerThanTheRow_ForbidNothing) {
  for (const std::int64_t size : {2, 3, 50})
    EXPECT_THAT(processed({1.0F, 1.0F}, {0}, {.no_repeat_ngram_size = size}), Each(1.0F)) << size;
}

TEST_F(ProcessScoresTest, MinLength_CountsTheStartToken) {
  EXPECT_THAT(processed({1.0F, 1.0F, 1.0F}, {0, 2}, {.min_length = 3, .end_token = 1}),
              ElementsAre(1.0F, kForbidden, 1.0F));
  EXPECT_THAT(processed({1.0F, 1.0F, 1.0F}, {0, 2}, {.min_length = 2, .end_token = 1}), Each(1.0F));
}

TEST_F(ProcessScoresTest, EachRowReadsItsOwnTokensThroughItsAncestry) {
  std::vector<float> scores(2 * 7, 2.0F);
  const std::vector<std::int32_t> tokens = {0, 1, 2, 6,     //
                                            0, 3, 4, 6};    // what lies beyond the length does not count
  const std::vector<std::int32_t> ancestry = {0, 1, 0, 0,   //
                                              0, 0, 1, 1};  // row 0 read 0 3 2, row 1 read 0 1 4

  ops_->process_scores(*queue_, {.rows = 2,
                                 .capacity = 4,
                                 .position = test::at_position(2),
                                 .tokens = {std::span(tokens), {2, 4}},
                                 .ancestry = {std::span(ancestry), {2, 4}},
                                 .no_repeat_ngram_size = 1,
                                 .scores = {std::span(scores), {2, 7}}});

  EXPECT_THAT(scores, ElementsAre(kForbidden, 2.0F, kForbidden, kForbidden, 2.0F, 2.0F, 2.0F,  //
                                  kForbidden, kForbidden, 2.0F, 2.0F, kForbidden, 2.0F, 2.0F));
}

TEST_F(ProcessScoresTest, LogSoftmaxThenTopContinuationsNormalised_IsTopContinuations) {
  PhiloxStream random(3, 1);
  std::vector<float> logits(4 * 1500);
  for (float& x : logits) x = 3.0F * random.normal();
  const std::vector<float> row_scores = {-1.0F, -2.0F, 0.0F, -0.5F};
  const auto top = [&](bool normalised) {
    std::vector<float> scores(2 * 5);
    std::vector<std::int32_t> rows(2 * 5), tokens(2 * 5);
    ops_->top_continuations(*queue_, {.items = 2,
                                      .beams = 2,
                                      .count = 5,
                                      .normalised = normalised,
                                      .logits = {std::span<const float>(logits), {4, 1500}},
                                      .row_scores = {std::span(row_scores), {4}},
                                      .scores = {std::span(scores), {2, 5}},
                                      .rows = {std::span(rows), {2, 5}},
                                      .tokens = {std::span(tokens), {2, 5}}});
    return std::tuple(scores, rows, tokens);
  };
  const auto at_once = top(false);

  ops_->log_softmax(*queue_, {.rows = 4, .scores = {std::span(logits), {4, 1500}}});
  const auto in_two = top(true);

  EXPECT_EQ(in_two, at_once);
  double sum = 0.0;
  for (std::size_t i = 0; i < 1500; ++i) sum += std::exp(double{logits[1500 + i]});
  EXPECT_NEAR(sum, 1.0, 1e-5);
}

TEST_F(ProcessScoresTest, WrongShapes_AreRefused) {
  std::vector<float> floats(8, 1.0F);
  const std::vector<std::int32_t> ints(8, 0);
  const ProcessScores op{.rows = 2,
                         .capacity = 4,
                         .position = test::at_position(4),
                         .tokens = {std::span(ints), {2, 4}},
                         .ancestry = {std::span(ints), {2, 4}},
                         .scores = {std::span(floats), {2, 4}}};

  EXPECT_THAT([&] { ops_->process_scores(*queue_, op); },
              ThrowsMessage<Error>(HasSubstr("a position below the capacity")));
}

}  // namespace
}  // namespace spillway::kernels
