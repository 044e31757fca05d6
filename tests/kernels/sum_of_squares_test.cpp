// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/sum_of_squares.hpp"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "kernels/kernel_fixtures.hpp"

namespace spillway::kernels::cpu {
namespace {

using test::Matrix;

std::vector<double> sums_of(ThreadPool& pool, Matrix& x, std::int64_t block) {
  const std::int64_t count = x.rows * x.columns;
  std::vector<double> sums(static_cast<std::size_t>((count + block - 1) / block), -1.0);
  sum_of_squares(pool, {.x = x.flat_view(),
                        .block = block,
                        .partial_sums = TensorView(std::span<double>(sums), {static_cast<std::int64_t>(sums.size())})});
  return sums;
}

TEST(SumOfSquares, EveryBlock_IsTheSumInLongDouble) {
  ThreadPool pool(3);
  for (const std::int64_t count : {1, 7, 8, 100, 1003}) {
    Matrix x = Matrix::random(1, count, 1);

    const std::vector<double> sums = sums_of(pool, x, 100);

    for (std::size_t b = 0; b < sums.size(); ++b) {
      long double expected = 0.0L;
      for (std::size_t i = 100 * b; i < std::min(x.values.size(), 100 * (b + 1)); ++i)
        expected += static_cast<long double>(x.values[i]) * static_cast<long double>(x.values[i]);
      EXPECT_NEAR(sums[b], static_cast<double>(expected), 1e-12);
    }
  }
}

TEST(SumOfSquares, OnOneAndThreeThreads_GivesTheSameBits) {
  ThreadPool one(1), three(3);
  Matrix x = Matrix::random(1, 70001, 1);

  EXPECT_EQ(sums_of(one, x, 4096), sums_of(three, x, 4096));
}

TEST(SumOfSquares, OfBf16_IsThatOfTheSameNumbersInFp32_OnEveryInstructionSet) {
  ThreadPool pool(2);
  for (const std::int64_t count : {1, 9, 1003}) {
    Matrix x = Matrix::random(1, count, 2);
    std::vector<std::uint16_t> rounded;
    for (float& value : x.values) value = float_from_bf16(rounded.emplace_back(bf16_from_float(value)));
    const std::vector<double> expected = sums_of(pool, x, 100);
    for (const InstructionSet set : {InstructionSet::baseline, InstructionSet::avx2, InstructionSet::avx512}) {
      if (!supported(set)) continue;
      std::vector<double> sums(expected.size(), -1.0), wide_sums(expected.size(), -1.0);
      const Shape shape{static_cast<std::int64_t>(sums.size())};

      sum_of_squares(pool,
                     {.x = {reinterpret_cast<const std::byte*>(rounded.data()), DType::bf16, {count}},
                      .block = 100,
                      .partial_sums = TensorView(std::span<double>(sums), shape)},
                     set);
      sum_of_squares(
          pool, {.x = x.flat_view(), .block = 100, .partial_sums = TensorView(std::span<double>(wide_sums), shape)},
          set);

      EXPECT_EQ(sums, expected);
      EXPECT_EQ(wide_sums, expected);
    }
  }
}

TEST(SumOfSquares, OfWhatOverflowsInSinglePrecision_IsFinite_AndOfInfinityIsNot) {
  ThreadPool pool(1);
  Matrix huge(1, 9, 1e30F), broken(1, 9, 1.0F);
  broken.values[8] = std::numeric_limits<float>::infinity();

  EXPECT_NEAR(sums_of(pool, huge, 64)[0] / 9e60, 1.0, 1e-6);
  EXPECT_TRUE(std::isinf(sums_of(pool, broken, 64)[0]));
}

}  // namespace
}  // namespace spillway::kernels::cpu
