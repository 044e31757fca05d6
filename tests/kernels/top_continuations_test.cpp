// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>
#include <vector>

#include <gmock/gmock.h>

#include "core/error.hpp"
#include "kernels/generation_fixture.hpp"
#include "kernels/vector_views.hpp"

namespace spillway::kernels {
namespace {

using test::GenerationOpsTest;
using test::random_values;
using test::view;
using test::writable;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

struct Best {
  std::vector<float> scores;
  std::vector<std::int32_t> rows, tokens;
};

Best top(GenerationOps& ops, Queue& queue, std::int64_t items, std::int64_t beams, std::int64_t count,
         const std::vector<float>& logits, const std::vector<float>& row_scores) {
  const auto size = static_cast<std::size_t>(items * count);
  Best best{std::vector<float>(size), std::vector<std::int32_t>(size), std::vector<std::int32_t>(size)};
  const std::int64_t rows = items * beams;
  ops.top_continuations(queue, {.items = items,
                                .beams = beams,
                                .count = count,
                                .logits = view(logits, {rows, static_cast<std::int64_t>(logits.size()) / rows}),
                                .row_scores = view(row_scores, {rows}),
                                .scores = writable(best.scores, {items, count}),
                                .rows = writable(best.rows, {items, count}),
                                .tokens = writable(best.tokens, {items, count})});
  return best;
}

TEST_F(GenerationOpsTest, TopContinuationsAreTheHeadOfASort) {
  const std::int64_t items = 3;
  const std::int64_t beams = 4;
  for (const std::int64_t vocabulary : {5, 16, 1024, 1025, 4099}) {
    const std::vector<float> logits = random_values(items * beams * vocabulary, static_cast<std::uint64_t>(vocabulary));
    const std::vector<float> row_scores = random_values(items * beams, 9);
    const std::int64_t count = 8;

    const Best best = top(*ops_, *queue_, items, beams, count, logits, row_scores);

    for (std::int64_t item = 0; item < items; ++item) {
      std::vector<std::tuple<double, std::int64_t, std::int64_t>> all;
      for (std::int64_t row = item * beams; row < (item + 1) * beams; ++row) {
        const auto begin = logits.begin() + row * vocabulary;
        double sum = 0.0;
        for (auto x = begin; x != begin + vocabulary; ++x) sum += std::exp(double{*x});
        for (std::int64_t token = 0; token < vocabulary; ++token) {
          all.emplace_back(-(double{row_scores[static_cast<std::size_t>(row)]} + double{begin[token]} - std::log(sum)),
                           row, token);
        }
      }
      std::sort(all.begin(), all.end());
      for (std::int64_t c = 0; c < count; ++c) {
        const auto at = static_cast<std::size_t>(item * count + c);
        const auto& [negative, row, token] = all[static_cast<std::size_t>(c)];
        EXPECT_NEAR(best.scores[at], -negative, 1e-5);
        EXPECT_EQ(best.rows[at], row) << "item " << item << ", place " << c << " of " << vocabulary;
        EXPECT_EQ(best.tokens[at], token);
      }
    }
  }
}

TEST_F(GenerationOpsTest, TiesGoToTheSmallerRowThenTheSmallerToken) {
  std::vector<float> logits(2 * 6, 0.0F);
  logits[4] = logits[5] = logits[6 + 1] = logits[6 + 4] = 2.0F;

  const Best best = top(*ops_, *queue_, 1, 2, 6, logits, {-1.0F, -1.0F});

  EXPECT_THAT(best.rows, ElementsAre(0, 0, 1, 1, 0, 0));
  EXPECT_THAT(best.tokens, ElementsAre(4, 5, 1, 4, 0, 1));
}

TEST_F(GenerationOpsTest, TiesAreKeptAcrossALargeVocabulary) {
  const std::int64_t vocabulary = 250112;
  std::vector<float> logits(static_cast<std::size_t>(vocabulary), -3.0F);
  for (const std::size_t token : {1023U, 1024U, 5000U, 250111U}) logits[token] = 8.0F;

  const Best best = top(*ops_, *queue_, 1, 1, 6, logits, {0.0F});

  EXPECT_THAT(best.tokens, ElementsAre(1023, 1024, 5000, 250111, 0, 1));
  EXPECT_NEAR(best.scores[0], -std::log(4.0 + (static_cast<double>(vocabulary) - 4.0) * std::exp(-11.0)), 1e-5);
}

TEST_F(GenerationOpsTest, EveryContinuationCanBeAskedFor) {
  const Best best = top(*ops_, *queue_, 1, 2, 6, {0.0F, 1.0F, 2.0F, 0.0F, 1.0F, 2.0F}, {0.0F, -1e9F});

  EXPECT_THAT(best.rows, ElementsAre(0, 0, 0, 1, 1, 1));
  EXPECT_THAT(best.tokens, ElementsAre(2, 1, 0, 0, 1, 2));  // next to -1e9 a logit is below fp32's resolution: a tie
}

TEST_F(GenerationOpsTest, ForbiddenTokensComeLast) {
  const float none = -std::numeric_limits<float>::infinity();

  const Best best = top(*ops_, *queue_, 1, 1, 3, {none, 0.0F, none, none}, {0.0F});

  EXPECT_THAT(best.tokens, ElementsAre(1, 0, 2));
  EXPECT_THAT(best.scores, ElementsAre(0.0F, none, none));
}

TEST_F(GenerationOpsTest, BitsOfTopContinuationsDoNotDependOnThreads) {
  const std::vector<float> logits = random_values(8 * 3001, 21);
  const std::vector<float> row_scores = random_values(8, 22);
  const auto alone = cpu::make_generation_ops(std::make_shared<cpu::ThreadPool>(1));

  const Best one = top(*alone, *queue_, 2, 4, 8, logits, row_scores);
  const Best three = top(*ops_, *queue_, 2, 4, 8, logits, row_scores);

  EXPECT_EQ(one.scores, three.scores);
  EXPECT_EQ(one.tokens, three.tokens);
}

TEST_F(GenerationOpsTest, LogitsThatAreNotFiniteAreAnErrorThatNamesTheRow) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    std::vector<float> logits(3 * 20, 0.0F);
    logits[2 * 20 + 7] = bad;
    EXPECT_THAT(
        [&] {
          (void)top(*ops_, *queue_, 3, 1, 2, logits, {0.0F, 0.0F, 0.0F});
        },
        ThrowsMessage<DataError>(HasSubstr("row 2")));
  }
}

}  // namespace
}  // namespace spillway::kernels
