// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/linear.hpp"

#include <algorithm>

#include <gtest/gtest.h>

#include "kernels/kernel_fixtures.hpp"

namespace spillway::kernels::cpu {
namespace {

using test::Matrix;

struct LinearShape {
  std::int64_t rows, in, out;
};

class LinearTest : public testing::TestWithParam<LinearShape> {};

TEST_P(LinearTest, Forward_IsAlphaTimesXTimesWTransposed) {
  const auto [rows, in, out] = GetParam();
  ThreadPool pool(2);
  Matrix x = Matrix::random(rows, in, 1), w = Matrix::random(out, in, 2), before = Matrix::random(rows, out, 3);
  for (const Output output : {Output::overwrite, Output::add}) {
    Matrix y = before;

    linear(pool, {.x = x.view(), .w = w.view(), .y = y.view(), .alpha = 0.25F, .output = output});

    for (std::int64_t n = 0; n < rows; ++n) {
      for (std::int64_t o = 0; o < out; ++o) {
        double expected = 0.0;
        for (std::int64_t i = 0; i < in; ++i)
          expected += 0.25 * static_cast<double>(x.at(n, i)) * static_cast<double>(w.at(o, i));
        if (output == Output::add) expected += static_cast<double>(before.at(n, o));
        ASSERT_NEAR(static_cast<double>(y.at(n, o)), expected, 1e-5);
      }
    }
  }
}

TEST_P(LinearTest, WithRelu_NothingBelowZeroIsLeft_AndTheRestIsTheSame) {
  const auto [rows, in, out] = GetParam();
  ThreadPool pool(2);
  Matrix x = Matrix::random(rows, in, 1), w = Matrix::random(out, in, 2), before = Matrix::random(rows, out, 3);
  for (const Output output : {Output::overwrite, Output::add}) {
    Matrix plain = before, y = before;
    linear(pool, {.x = x.view(), .w = w.view(), .y = plain.view(), .alpha = 0.25F, .output = output});

    linear(pool, {.x = x.view(), .w = w.view(), .y = y.view(), .alpha = 0.25F, .output = output, .relu = true});

    for (std::int64_t n = 0; n < rows; ++n)
      for (std::int64_t o = 0; o < out; ++o) ASSERT_EQ(y.at(n, o), std::max(plain.at(n, o), 0.0F)) << n << " " << o;
  }
}

/// Σ d_y · y, y = alpha x wᵀ.
double weighted_output(const std::vector<double>& x, const std::vector<double>& w, const Matrix& dy, std::int64_t in) {
  double sum = 0.0;
  for (std::int64_t n = 0; n < dy.rows; ++n)
    for (std::int64_t o = 0; o < dy.columns; ++o)
      for (std::int64_t i = 0; i < in; ++i)
        sum += 0.25 * static_cast<double>(dy.at(n, o)) * x[static_cast<std::size_t>(n * in + i)] *
               w[static_cast<std::size_t>(o * in + i)];
  return sum;
}

TEST_P(LinearTest, Gradients_AreTheFiniteDifferences) {
  const auto [rows, in, out] = GetParam();
  ThreadPool pool(2);
  Matrix x = Matrix::random(rows, in, 1), w = Matrix::random(out, in, 2), dy = Matrix::random(rows, out, 3);
  Matrix dx(rows, in, 0.5F), dx_added(rows, in, 0.5F), dw(out, in, 0.5F);

  linear_input_gradient(pool, {.dy = dy.view(), .w = w.view(), .dx = dx.view(), .alpha = 0.25F});
  linear_input_gradient(pool,
                        {.dy = dy.view(), .w = w.view(), .dx = dx_added.view(), .alpha = 0.25F, .output = Output::add});
  linear_weight_gradient(pool, {.dy = dy.view(), .x = x.view(), .dw = dw.view(), .alpha = 0.25F});

  std::vector<double> x_values = test::doubles(x.values), w_values = test::doubles(w.values);
  for (std::size_t e = 0; e < x_values.size(); ++e) {
    const double expected =
        test::slope(x_values, e, [&](const auto& v) { return weighted_output(v, w_values, dy, in); });
    EXPECT_NEAR(static_cast<double>(dx.values[e]), expected, 1e-5);
    EXPECT_NEAR(static_cast<double>(dx_added.values[e]), expected + 0.5, 1e-5);
  }
  for (std::size_t e = 0; e < w_values.size(); ++e) {
    const double expected =
        test::slope(w_values, e, [&](const auto& v) { return weighted_output(x_values, v, dy, in); });
    EXPECT_NEAR(static_cast<double>(dw.values[e]), expected + 0.5, 1e-5) << "the gradient is added to what is there";
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, LinearTest,
                         testing::Values(LinearShape{1, 1, 1}, LinearShape{1, 5, 24}, LinearShape{6, 7, 5},
                                         LinearShape{0, 5, 3}));

}  // namespace
}  // namespace spillway::kernels::cpu
