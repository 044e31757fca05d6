// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/cross_entropy.hpp"

#include <cmath>

#include <gtest/gtest.h>

#include "core/error.hpp"
#include "kernels/kernel_fixtures.hpp"

namespace spillway::kernels::cpu {
namespace {

using test::Matrix;

struct Case {
  std::int64_t rows, vocabulary;
  float smoothing;
};

double reference(const std::vector<double>& x, std::int64_t row, std::int64_t vocabulary, std::int32_t label,
                 double smoothing) {
  const double* logits = x.data() + row * vocabulary;
  double maximum = logits[0];
  for (std::int64_t v = 0; v < vocabulary; ++v) maximum = std::max(maximum, logits[v]);
  double sum = 0.0;
  for (std::int64_t v = 0; v < vocabulary; ++v) sum += std::exp(logits[v] - maximum);
  double all = 0.0;
  for (std::int64_t v = 0; v < vocabulary; ++v) all += std::log(sum) - (logits[v] - maximum);
  return (1 - smoothing) * (std::log(sum) - (logits[label] - maximum)) +
         smoothing / static_cast<double>(vocabulary) * all;
}

struct CrossEntropyTest : testing::TestWithParam<Case> {
  std::int64_t rows = GetParam().rows, vocabulary = GetParam().vocabulary;
  Matrix logits = Matrix::random(rows, vocabulary, 1);
  Matrix losses{1, rows};
  std::vector<std::int32_t> labels;

  CrossEntropyTest() {
    for (float& logit : logits.values) logit *= 3.0F;
    for (std::int64_t row = 0; row < rows; ++row)
      labels.push_back(static_cast<std::int32_t>((vocabulary - 1 + 7 * row) % vocabulary));
  }
  CrossEntropy op(float scale) {
    return {.logits = logits.view(),
            .labels = {std::span<const std::int32_t>(labels), {rows}},
            .label_smoothing = GetParam().smoothing,
            .gradient_scale = scale,
            .losses = losses.flat_view()};
  }
};

TEST_P(CrossEntropyTest, LossWithoutGradient_IsTheFormulaAndKeepsTheLogits) {
  ThreadPool pool(2);
  const Matrix before = logits;

  cross_entropy(pool, op(0.0F));

  const auto x = test::doubles(before.values);
  for (std::int64_t row = 0; row < rows; ++row) {
    const double expected =
        reference(x, row, vocabulary, labels[static_cast<std::size_t>(row)], static_cast<double>(GetParam().smoothing));
    EXPECT_NEAR(static_cast<double>(losses.at(0, row)), expected, 2e-6 * std::max(1.0, expected));
  }
  EXPECT_EQ(logits.values, before.values);
}

TEST_P(CrossEntropyTest, Gradient_IsTheFiniteDifference_AndIndependentOfThreads) {
  ThreadPool one(1), three(3);
  const Matrix before = logits;
  cross_entropy(one, op(0.0F));
  const Matrix losses_alone = losses;

  cross_entropy(one, op(0.5F));
  const Matrix gradient = logits;
  EXPECT_EQ(losses.values, losses_alone.values);
  logits = before;
  cross_entropy(three, op(0.5F));

  EXPECT_EQ(logits.values, gradient.values);
  auto x = test::doubles(before.values);
  for (std::size_t e = 0; e < x.size(); e += 1 + x.size() / 200) {
    const std::int64_t row = static_cast<std::int64_t>(e) / vocabulary;
    const double expected = 0.5 * test::slope(x, e, [&](const auto& v) {
                              return reference(v, row, vocabulary, labels[static_cast<std::size_t>(row)],
                                               static_cast<double>(GetParam().smoothing));
                            });
    ASSERT_NEAR(static_cast<double>(gradient.values[e]), expected, 1e-6);
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, CrossEntropyTest,
                         testing::Values(Case{1, 1, 0.0F}, Case{1, 5, 0.1F}, Case{9, 24, 0.0F}, Case{5, 24, 0.1F},
                                         Case{3, 2500, 0.1F}));

TEST(CrossEntropy, WithHugeLogits_StaysFinite) {
  ThreadPool pool(1);
  Matrix logits(1, 3), losses(1, 1);
  logits.values = {1e4F, -1e4F, 0.0F};
  const std::vector<std::int32_t> labels{1};

  cross_entropy(pool, {.logits = logits.view(),
                       .labels = {std::span<const std::int32_t>(labels), {1}},
                       .gradient_scale = 1.0F,
                       .losses = losses.flat_view()});

  EXPECT_FLOAT_EQ(losses.values[0], 2e4F);
  EXPECT_EQ(logits.values, (std::vector<float>{1.0F, -1.0F, 0.0F}));
}

TEST(CrossEntropy, ALabelOutsideTheVocabulary_Throws) {
  ThreadPool pool(1);
  Matrix logits(1, 3), losses(1, 1);
  const std::vector<std::int32_t> labels{3};

  EXPECT_THROW(cross_entropy(pool, {.logits = logits.view(),
                                    .labels = {std::span<const std::int32_t>(labels), {1}},
                                    .losses = losses.flat_view()}),
               Error);
}

}  // namespace
}  // namespace spillway::kernels::cpu
