// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/elementwise.hpp"

#include <gtest/gtest.h>

#include "kernels/kernel_fixtures.hpp"

namespace spillway::kernels::cpu {
namespace {

using test::Batch;
using test::Matrix;

class ElementwiseTest : public testing::TestWithParam<std::tuple<std::int64_t, std::int64_t, float>> {};

TEST_P(ElementwiseTest, ResidualAdd_AddsTheDroppedBranch) {
  const auto [rows, width, probability] = GetParam();
  const Batch batch(rows);
  const Dropout dropout{.probability = probability, .key = 31, .site = 6};
  ThreadPool one(1), three(3);
  Matrix hidden = Matrix::random(rows, width, 1), branch = Matrix::random(rows, width, 2), out(rows, width);
  const Matrix before = hidden;

  residual_add(one, {.sequences = batch.sequences,
                     .hidden_in = hidden.view(),
                     .branch = branch.view(),
                     .dropout = dropout,
                     .hidden_out = out.view()});
  residual_add(three, {.sequences = batch.sequences,
                       .hidden_in = hidden.view(),
                       .branch = branch.view(),
                       .dropout = dropout,
                       .hidden_out = hidden.view()});

  for (std::int64_t row = 0; row < rows; ++row)
    for (std::int64_t c = 0; c < width; ++c)
      ASSERT_NEAR(static_cast<double>(out.at(row, c)),
                  static_cast<double>(before.at(row, c)) +
                      static_cast<double>(branch.at(row, c)) * test::dropout_factor(dropout, batch, row, width, c),
                  1e-6);
  EXPECT_EQ(hidden.values, out.values) << "in place, on three threads";
}

TEST_P(ElementwiseTest, ResidualAddGradient_IsTheDroppedGradient) {
  const auto [rows, width, probability] = GetParam();
  const Batch batch(rows);
  const Dropout dropout{.probability = probability, .key = 31, .site = 6};
  ThreadPool pool(2);
  Matrix d_hidden = Matrix::random(rows, width, 1), d_branch(rows, width);

  residual_add_gradient(
      pool,
      {.sequences = batch.sequences, .d_hidden = d_hidden.view(), .dropout = dropout, .d_branch = d_branch.view()});

  // The forward pass is linear in the branch: its slope is the factor.
  for (std::int64_t row = 0; row < rows; ++row)
    for (std::int64_t c = 0; c < width; ++c)
      ASSERT_NEAR(static_cast<double>(d_branch.at(row, c)),
                  static_cast<double>(d_hidden.at(row, c)) * test::dropout_factor(dropout, batch, row, width, c), 1e-6);
}

INSTANTIATE_TEST_SUITE_P(Shapes, ElementwiseTest,
                         testing::Combine(testing::Values(1, 200), testing::Values(1, 5, 24, 150),
                                          testing::Values(0.0F, 0.3F)));

TEST(FillZero, OfAnyDtype_WritesItsBytesOnly) {
  ThreadPool pool(2);
  std::vector<std::int8_t> bytes(600001, 1);

  fill_zero(pool, TensorView(std::span<std::int8_t>(bytes.data() + 1, 599999), {599999}));

  EXPECT_EQ(bytes.front(), 1);
  EXPECT_EQ(bytes.back(), 1);
  for (std::size_t i = 1; i + 1 < bytes.size(); ++i) ASSERT_EQ(bytes[i], 0);
}

TEST(Add, OverSeveralBlocks_AddsEveryElementOnce) {
  ThreadPool pool(3);
  Matrix from = Matrix::random(1, 140003, 1), to = Matrix::random(1, 140003, 2);
  const Matrix before = to;

  add(pool, from.view(), to.view());

  for (std::size_t i = 0; i < to.values.size(); ++i) ASSERT_EQ(to.values[i], before.values[i] + from.values[i]);
}

}  // namespace
}  // namespace spillway::kernels::cpu
