// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/residual_norm.hpp"

#include <cmath>

#include <gtest/gtest.h>

#include "kernels/kernel_fixtures.hpp"

namespace spillway::kernels::cpu {
namespace {

using test::Batch;
using test::Matrix;

struct Case {
  std::int64_t rows, width;
  float probability, output_probability;
  bool branch;
};

struct ResidualNormTest : testing::TestWithParam<Case> {
  std::int64_t rows = GetParam().rows, width = GetParam().width;
  Batch batch{rows};
  Dropout dropout{.probability = GetParam().probability, .key = 11, .site = 3};
  Dropout output_dropout{.probability = GetParam().output_probability, .key = 11, .site = 4};
  Matrix hidden_in = Matrix::random(rows, width, 1);
  Matrix branch = Matrix::random(rows, width, 2);
  Matrix weight = Matrix::random(1, width, 3);
  Matrix hidden{rows, width}, normed{rows, width}, rstd{1, rows};

  ResidualNorm forward() {
    return {.sequences = batch.sequences,
            .hidden_in = hidden_in.view(),
            .branch = GetParam().branch ? branch.view() : TensorView(),
            .weight = weight.flat_view(),
            .dropout = dropout,
            .output_dropout = output_dropout,
            .hidden_out = hidden.view(),
            .normed = normed.view(),
            .rstd = rstd.flat_view()};
  }

  double hidden_at(const std::vector<double>& in, const std::vector<double>& added, std::int64_t row,
                   std::int64_t c) const {
    const auto element = static_cast<std::size_t>(row * width + c);
    return in[element] +
           (GetParam().branch ? added[element] * test::dropout_factor(dropout, batch, row, width, c) : 0.0);
  }
  double rstd_of(const std::vector<double>& in, const std::vector<double>& added, std::int64_t row) const {
    double squares = 0.0;
    for (std::int64_t c = 0; c < width; ++c) squares += std::pow(hidden_at(in, added, row, c), 2);
    return 1.0 / std::sqrt(squares / static_cast<double>(width) + 1e-6);
  }
  double output_factor(std::int64_t row, std::int64_t c) const {
    return test::dropout_factor(output_dropout, batch, row, width, c);
  }
};

TEST_P(ResidualNormTest, Forward_IsTheFormula) {
  ThreadPool pool(2);

  residual_norm(pool, forward());

  const auto in = test::doubles(hidden_in.values), added = test::doubles(branch.values);
  for (std::int64_t row = 0; row < rows; ++row) {
    const double expected_rstd = rstd_of(in, added, row);
    ASSERT_NEAR(static_cast<double>(rstd.at(0, row)) / expected_rstd, 1.0, 1e-6);
    for (std::int64_t c = 0; c < width; ++c) {
      const double h = hidden_at(in, added, row, c);
      ASSERT_NEAR(static_cast<double>(hidden.at(row, c)), h, 1e-6);
      ASSERT_NEAR(static_cast<double>(normed.at(row, c)),
                  h * expected_rstd * static_cast<double>(weight.at(0, c)) * output_factor(row, c), 5e-6);
    }
  }
}

TEST_P(ResidualNormTest, Forward_InPlace_GivesTheSame) {
  ThreadPool pool(1);
  residual_norm(pool, forward());
  const Matrix expected_hidden = hidden, expected_normed = normed;
  ResidualNorm in_place = forward();
  in_place.hidden_out = hidden_in.view();

  residual_norm(pool, in_place);

  EXPECT_EQ(hidden_in.values, expected_hidden.values);
  EXPECT_EQ(normed.values, expected_normed.values);
}

TEST_P(ResidualNormTest, Gradient_IsTheFiniteDifference_AndIndependentOfThreads) {
  ThreadPool one(1), three(3);
  residual_norm(one, forward());
  Matrix d_normed = Matrix::random(rows, width, 4);
  const Matrix d_later = Matrix::random(rows, width, 5);
  Matrix d_hidden = d_later, d_branch(rows, width), d_weight(1, width, 0.5F);
  Matrix d_hidden3 = d_later, d_branch3(rows, width), d_weight3(1, width, 0.5F);
  ResidualNormGradient op{.sequences = batch.sequences,
                          .d_normed = d_normed.view(),
                          .hidden = hidden.view(),
                          .rstd = rstd.flat_view(),
                          .weight = weight.flat_view(),
                          .dropout = dropout,
                          .output_dropout = output_dropout,
                          .d_hidden = d_hidden.view(),
                          .d_branch = GetParam().branch ? d_branch.view() : TensorView(),
                          .d_weight = d_weight.flat_view()};

  residual_norm_gradient(one, op);
  op.d_hidden = d_hidden3.view();
  op.d_weight = d_weight3.flat_view();
  if (GetParam().branch) op.d_branch = d_branch3.view();
  residual_norm_gradient(three, op);

  EXPECT_EQ(d_hidden.values, d_hidden3.values);
  EXPECT_EQ(d_branch.values, d_branch3.values);
  EXPECT_EQ(d_weight.values, d_weight3.values);
  // Σ d_normed · normed + Σ d_later · hidden_out, of one row or of all.
  const auto loss = [&](const std::vector<double>& in, const std::vector<double>& added, const std::vector<double>& w,
                        std::int64_t row) {
    const double r = rstd_of(in, added, row);
    double sum = 0.0;
    for (std::int64_t c = 0; c < width; ++c)
      sum += hidden_at(in, added, row, c) *
             (static_cast<double>(d_normed.at(row, c)) * r * w[static_cast<std::size_t>(c)] * output_factor(row, c) +
              static_cast<double>(d_later.at(row, c)));
    return sum;
  };
  auto in = test::doubles(hidden_in.values), added = test::doubles(branch.values), w = test::doubles(weight.values);
  for (std::size_t e = 0; e < in.size(); e += 1 + in.size() / 300) {
    const std::int64_t row = static_cast<std::int64_t>(e) / width;
    const double d_in = test::slope(in, e, [&](const auto& v) { return loss(v, added, w, row); });
    ASSERT_NEAR(static_cast<double>(d_hidden.values[e]), d_in, 2e-5 * std::max(1.0, std::abs(d_in)));
    if (!GetParam().branch) continue;
    const double d_added = test::slope(added, e, [&](const auto& v) { return loss(in, v, w, row); });
    ASSERT_NEAR(static_cast<double>(d_branch.values[e]), d_added, 2e-5 * std::max(1.0, std::abs(d_added)));
  }
  for (std::size_t e = 0; e < w.size(); e += 1 + w.size() / 40) {
    const double d_w = test::slope(w, e, [&](const auto& v) {
      double sum = 0.0;
      for (std::int64_t row = 0; row < rows; ++row) sum += loss(in, added, v, row);
      return sum;
    });
    ASSERT_NEAR(static_cast<double>(d_weight.values[e]), 0.5 + d_w, 2e-5 * std::max(1.0, std::abs(d_w)));
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, ResidualNormTest,
                         testing::Values(Case{1, 1, 0.0F, 0.0F, true}, Case{1, 5, 0.3F, 0.0F, true},
                                         Case{7, 24, 0.0F, 0.3F, false}, Case{70, 24, 0.3F, 0.2F, true},
                                         Case{3, 150, 0.3F, 0.2F, true}, Case{40, 16, 0.0F, 0.0F, false}));

TEST(ResidualNorm, WithoutBranch_HiddenOutMayBeLeftOut) {
  ThreadPool pool(1);
  Matrix hidden(1, 4, 2.0F), weight(1, 4, 3.0F), normed(1, 4), rstd(1, 1);

  residual_norm(pool, {.sequences = {},
                       .hidden_in = hidden.view(),
                       .branch = {},
                       .weight = weight.flat_view(),
                       .dropout = {},
                       .output_dropout = {},
                       .hidden_out = {},
                       .normed = normed.view(),
                       .rstd = rstd.flat_view()});

  for (const float value : normed.values) EXPECT_NEAR(value, 3.0F, 1e-5F);
}

}  // namespace
}  // namespace spillway::kernels::cpu
