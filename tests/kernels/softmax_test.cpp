// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/softmax.hpp"

#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include <gmock/gmock.h>

#include "kernels/cpu/instruction_set.hpp"

namespace spillway::kernels::cpu {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST(Lanes, SumDotAndPartialLoadsSeeEveryElementOnce) {
  const std::vector<float> ones(40, 1.0F);
  for (std::int64_t count = 0; count <= 37; ++count) {
    float found = -1.0F;
    run_vectorised([&] [[gnu::always_inline]] { found = dot(ones.data(), ones.data(), count); });
    EXPECT_EQ(found, static_cast<float>(count));
  }
}

struct Row {
  std::vector<float> scores = std::vector<float>(64, 7.0F);
  std::vector<float> bias = std::vector<float>(64, 3.0F);
};

Row example_row() {
  Row row;
  for (std::size_t j = 0; j < row.scores.size(); ++j) {
    row.scores[j] = 3.0F * std::sin(static_cast<float>(j) * 1.7F);
    row.bias[j] = std::cos(static_cast<float>(j) * 0.3F);
  }
  return row;
}

TEST(SoftmaxRow, IsTheSoftmaxOfScoresPlusBiasOverVisibleKeys) {
  for (const std::int64_t visible : {1, 2, 15, 16, 17, 31, 33}) {
    Row row = example_row();
    const Row before = row;
    float log_sum = 0.0F;

    run_vectorised([&] [[gnu::always_inline]] {
      log_sum = softmax_row({.scores = row.scores.data(), .bias = row.bias.data(), .visible = visible, .columns = 40});
    });

    double sum = 0.0;
    for (std::size_t j = 0; j < static_cast<std::size_t>(visible); ++j)
      sum += std::exp(double{before.scores[j]} + double{before.bias[j]});
    EXPECT_NEAR(log_sum, std::log(sum), 1e-6 * std::abs(std::log(sum)) + 1e-6);
    for (std::size_t j = 0; j < 40; ++j) {
      const double expected = j < static_cast<std::size_t>(visible)
                                  ? std::exp(double{before.scores[j]} + double{before.bias[j]}) / sum
                                  : 0.0;
      EXPECT_NEAR(row.scores[j], expected, 1e-6) << "key " << j << " of " << visible;
    }
    EXPECT_EQ(row.scores[48], before.scores[48]);
  }
}

TEST(SoftmaxRow, SurvivesScoresThatOverflowExp) {
  std::vector<float> scores(16, 1000.0F);
  scores[1] = 900.0F;
  float log_sum = 0.0F;

  run_vectorised([&] [[gnu::always_inline]] {
    log_sum = softmax_row({.scores = scores.data(), .bias = nullptr, .visible = 3, .columns = 3});
  });

  EXPECT_FLOAT_EQ(log_sum, 1000.0F + std::log(2.0F));
  EXPECT_FLOAT_EQ(scores[0], 0.5F);
  EXPECT_LT(scores[1], 1e-40F);
}

TEST(SoftmaxRow, PassesNaNOnAndIgnoresWhatLiesBehindTheVisible) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> clean(16, 1.0F);
  clean[5] = nan;
  std::vector<float> broken(16, 1.0F);
  broken[1] = nan;

  run_vectorised([&] [[gnu::always_inline]] {
    softmax_row({.scores = clean.data(), .bias = nullptr, .visible = 4, .columns = 4});
    softmax_row({.scores = broken.data(), .bias = nullptr, .visible = 4, .columns = 4});
  });

  EXPECT_EQ(clean[0], 0.25F);
  EXPECT_TRUE(std::isnan(broken[0]));
}

TEST(SoftmaxRow, GivesTheSameBitsWithEveryInstructionSet) {
  Row plain = example_row();
  Row avx2 = example_row();
  Row avx512 = example_row();
  const auto softmax_with = [](InstructionSet set, Row& row) {
    const ScoreRow scores{.scores = row.scores.data(), .bias = row.bias.data(), .visible = 45, .columns = 45};
    vectorised_for<[] [[gnu::always_inline]] (const ScoreRow& inlined) { softmax_row(inlined); }>(set, scores);
  };

  softmax_with(InstructionSet::baseline, plain);
  if (!supported(InstructionSet::avx2)) GTEST_SKIP() << "this CPU has no AVX2 to compare with";
  softmax_with(InstructionSet::avx2, avx2);
  EXPECT_EQ(plain.scores, avx2.scores);
  if (!supported(InstructionSet::avx512)) GTEST_SKIP() << "this CPU has no AVX-512 to compare with";
  softmax_with(InstructionSet::avx512, avx512);
  EXPECT_EQ(plain.scores, avx512.scores);
}

}  // namespace
}  // namespace spillway::kernels::cpu
