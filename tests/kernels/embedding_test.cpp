// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/embedding.hpp"

#include <gtest/gtest.h>

#include "core/error.hpp"
#include "kernels/kernel_fixtures.hpp"

namespace spillway::kernels::cpu {
namespace {

using test::Batch;
using test::Matrix;

constexpr std::int64_t kVocabulary = 6;

std::vector<std::int32_t> some_ids(std::int64_t rows) {
  std::vector<std::int32_t> ids;
  for (std::int64_t row = 0; row < rows; ++row) ids.push_back(static_cast<std::int32_t>(row * row % 5));
  return ids;
}

ConstTensorView view_of(const std::vector<std::int32_t>& ids) {
  return {std::span<const std::int32_t>(ids), {static_cast<std::int64_t>(ids.size())}};
}

class EmbeddingTest : public testing::TestWithParam<std::tuple<std::int64_t, std::int64_t, float>> {};

TEST_P(EmbeddingTest, Forward_IsTheDroppedRowOfTheTable) {
  const auto [rows, width, probability] = GetParam();
  const Batch batch(rows);
  const Dropout dropout{.probability = probability, .key = 3, .site = 4};
  ThreadPool pool(2);
  const std::vector<std::int32_t> ids = some_ids(rows);
  Matrix table = Matrix::random(kVocabulary, width, 1), out(rows, width);

  embedding(pool, {.sequences = batch.sequences,
                   .ids = view_of(ids),
                   .table = table.view(),
                   .dropout = dropout,
                   .out = out.view()});

  for (std::int64_t row = 0; row < rows; ++row)
    for (std::int64_t c = 0; c < width; ++c)
      ASSERT_FLOAT_EQ(out.at(row, c),
                      static_cast<float>(static_cast<double>(table.at(ids[static_cast<std::size_t>(row)], c)) *
                                         test::dropout_factor(dropout, batch, row, width, c)));
}

TEST_P(EmbeddingTest, Gradient_IsTheFiniteDifference_AndIndependentOfThreads) {
  const auto [rows, width, probability] = GetParam();
  const Batch batch(rows);
  const Dropout dropout{.probability = probability, .key = 3, .site = 4};
  ThreadPool one(1), three(3);
  const std::vector<std::int32_t> ids = some_ids(rows);
  Matrix d_out = Matrix::random(rows, width, 2), d_table(kVocabulary, width, 0.5F),
         d_table_of_three(kVocabulary, width, 0.5F);
  EmbeddingGradient op{.sequences = batch.sequences,
                       .ids = view_of(ids),
                       .d_out = d_out.view(),
                       .dropout = dropout,
                       .d_table = d_table.view()};

  embedding_gradient(one, op);
  op.d_table = d_table_of_three.view();
  embedding_gradient(three, op);

  std::vector<double> table(static_cast<std::size_t>(kVocabulary * width), 1.0);
  const auto weighted_output = [&, rows = rows, width = width](const std::vector<double>& t) {
    double sum = 0.0;
    for (std::int64_t row = 0; row < rows; ++row)
      for (std::int64_t c = 0; c < width; ++c)
        sum += static_cast<double>(d_out.at(row, c)) *
               t[static_cast<std::size_t>(ids[static_cast<std::size_t>(row)] * width + c)] *
               test::dropout_factor(dropout, batch, row, width, c);
    return sum;
  };
  for (std::size_t e = 0; e < table.size(); ++e)
    ASSERT_NEAR(static_cast<double>(d_table.values[e]), 0.5 + test::slope(table, e, weighted_output), 1e-5);
  EXPECT_EQ(d_table.values, d_table_of_three.values);
}

INSTANTIATE_TEST_SUITE_P(Shapes, EmbeddingTest,
                         testing::Combine(testing::Values(1, 13), testing::Values(1, 5, 24, 150),
                                          testing::Values(0.0F, 0.3F)));

TEST(Embedding, AnIdOutsideTheTable_Throws) {
  ThreadPool pool(1);
  const std::vector<std::int32_t> too_large{0, 6}, negative{-1, 0};
  Matrix table(kVocabulary, 3), out(2, 3);

  EXPECT_THROW(
      embedding(pool,
                {.sequences = {}, .ids = view_of(too_large), .table = table.view(), .dropout = {}, .out = out.view()}),
      Error);
  EXPECT_THROW(
      embedding_gradient(
          pool,
          {.sequences = {}, .ids = view_of(negative), .d_out = out.view(), .dropout = {}, .d_table = table.view()}),
      Error);
}

}  // namespace
}  // namespace spillway::kernels::cpu
