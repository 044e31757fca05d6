// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/activation.hpp"

#include <cmath>

#include <gtest/gtest.h>

#include "core/error.hpp"
#include "kernels/checks.hpp"
#include "kernels/kernel_fixtures.hpp"

namespace spillway::kernels::cpu {
namespace {

using test::Batch;
using test::Matrix;

struct Case {
  std::int64_t rows, width;
  ActivationKind kind;
  bool gated;
  float probability;
};

double function(ActivationKind kind, double x) {
  const auto logistic = [](double z) { return 1.0 / (1.0 + std::exp(-z)); };
  switch (kind) {
    case ActivationKind::relu: return std::max(x, 0.0);
    case ActivationKind::relu_squared: return std::max(x, 0.0) * std::max(x, 0.0);
    case ActivationKind::gelu: return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
    case ActivationKind::gelu_new: return 0.5 * x * (1 + std::tanh(std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)));
    case ActivationKind::quick_gelu: return x * logistic(1.702 * x);
    case ActivationKind::silu: return x * logistic(x);
    case ActivationKind::sigmoid: return logistic(x);
    case ActivationKind::tanh: return std::tanh(x);
    case ActivationKind::mish: return x * std::tanh(std::log1p(std::exp(x)));
  }
  return 0.0;
}

struct ActivationTest : testing::TestWithParam<Case> {
  std::int64_t rows = GetParam().rows, width = GetParam().width;
  std::int64_t u_width = GetParam().gated ? 2 * width : width;
  Batch batch{rows};
  Dropout dropout{.probability = GetParam().probability, .key = 21, .site = 5};
  Matrix u = Matrix::random(rows, u_width, 1);

  double output(const std::vector<double>& x, std::int64_t row, std::int64_t c) const {
    const double value = function(GetParam().kind, x[static_cast<std::size_t>(row * u_width + c)]);
    const double gate = GetParam().gated ? x[static_cast<std::size_t>(row * u_width + width + c)] : 1.0;
    return value * gate * test::dropout_factor(dropout, batch, row, width, c);
  }
};

TEST_P(ActivationTest, Forward_IsTheFormula) {
  ThreadPool pool(2);
  Matrix out(rows, width);

  activation(pool, {.sequences = batch.sequences,
                    .kind = GetParam().kind,
                    .gated = GetParam().gated,
                    .u = u.view(),
                    .dropout = dropout,
                    .out = out.view()});

  const auto x = test::doubles(u.values);
  for (std::int64_t row = 0; row < rows; ++row)
    for (std::int64_t c = 0; c < width; ++c) ASSERT_NEAR(static_cast<double>(out.at(row, c)), output(x, row, c), 2e-6);
}

TEST_P(ActivationTest, Gradient_IsTheFiniteDifference_AlsoInPlace) {
  ThreadPool one(1), three(3);
  Matrix d_out = Matrix::random(rows, width, 2), du(rows, u_width);
  ActivationGradient op{.sequences = batch.sequences,
                        .kind = GetParam().kind,
                        .gated = GetParam().gated,
                        .u = u.view(),
                        .d_out = d_out.view(),
                        .dropout = dropout,
                        .du = du.view()};
  auto x = test::doubles(u.values);

  activation_gradient(one, op);
  op.du = u.view();
  activation_gradient(three, op);

  for (std::size_t e = 0; e < x.size(); ++e) {
    const std::int64_t row = static_cast<std::int64_t>(e) / u_width, c = static_cast<std::int64_t>(e) % u_width % width;
    const double expected =
        static_cast<double>(d_out.at(row, c)) * test::slope(x, e, [&](const auto& v) { return output(v, row, c); });
    ASSERT_NEAR(static_cast<double>(du.values[e]), expected, 1e-5);
  }
  EXPECT_EQ(u.values, du.values) << "in place, on three threads";
}

TEST(ReluMask, GivesTheBitsOfTheGradientByU_InPlaceToo) {
  constexpr std::int64_t kRows = 29, kWidth = 152;  // rows end inside a vector
  ThreadPool one(1), three(3);
  Batch batch(kRows);
  const Dropout dropout{.probability = 0.3F, .key = 21, .site = 5};
  Matrix u = Matrix::random(kRows, kWidth, 1), d_out = Matrix::random(kRows, kWidth, 2), du(kRows, kWidth);
  std::vector<std::uint8_t> mask(static_cast<std::size_t>(kRows * kWidth / 8), 0xFF);
  const TensorView bits(reinterpret_cast<std::byte*>(mask.data()), DType::u8, {kRows, kWidth / 8});
  activation_gradient(
      one, {.sequences = batch.sequences, .u = u.view(), .d_out = d_out.view(), .dropout = dropout, .du = du.view()});

  activation(three, {.sequences = batch.sequences, .u = u.view(), .dropout = dropout, .out = u.view(), .mask = bits});
  activation_gradient(three,
                      {.sequences = {}, .d_out = d_out.view(), .dropout = dropout, .du = d_out.view(), .mask = bits});

  EXPECT_EQ(d_out.values, du.values);
  for (std::size_t e = 0; e < u.values.size(); ++e)
    ASSERT_EQ((mask[e / 8] >> e % 8 & 1) != 0, u.values[e] != 0.0F) << e;
}

TEST(ReluMask, OfAnyOtherActivation_IsRefused) {
  Batch batch(2);
  Matrix u(2, 16), out(2, 16), gated(2, 32), narrow(2, 12);
  std::vector<std::uint8_t> mask(4);
  const TensorView bits(reinterpret_cast<std::byte*>(mask.data()), DType::u8, {2, 2});
  Activation op{.sequences = batch.sequences, .u = u.view(), .dropout = {}, .out = out.view(), .mask = bits};
  EXPECT_NO_THROW(check(op));

  op.kind = ActivationKind::gelu;
  EXPECT_THROW(check(op), Error);
  op = {.sequences = batch.sequences, .gated = true, .u = gated.view(), .dropout = {}, .out = out.view(), .mask = bits};
  EXPECT_THROW(check(op), Error);
  op = {.sequences = batch.sequences, .u = narrow.view(), .dropout = {}, .out = narrow.view(), .mask = bits};
  EXPECT_THROW(check(op), Error);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, ActivationTest,
    testing::Values(Case{1, 1, ActivationKind::relu, false, 0.0F}, Case{5, 24, ActivationKind::relu, false, 0.3F},
                    Case{7, 5, ActivationKind::relu, true, 0.3F}, Case{1, 1, ActivationKind::gelu_new, true, 0.0F},
                    Case{6, 24, ActivationKind::gelu_new, true, 0.3F},
                    Case{200, 150, ActivationKind::gelu_new, true, 0.1F},
                    Case{4, 5, ActivationKind::gelu_new, false, 0.0F},
                    Case{5, 24, ActivationKind::relu_squared, false, 0.1F},
                    Case{5, 24, ActivationKind::gelu, true, 0.1F}, Case{5, 24, ActivationKind::quick_gelu, true, 0.0F},
                    Case{5, 24, ActivationKind::silu, true, 0.1F}, Case{5, 24, ActivationKind::sigmoid, false, 0.1F},
                    Case{5, 24, ActivationKind::tanh, true, 0.0F}, Case{5, 24, ActivationKind::mish, false, 0.1F}));

}  // namespace
}  // namespace spillway::kernels::cpu
