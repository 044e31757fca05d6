// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/few_rows_gemm.hpp"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "kernels/kernel_fixtures.hpp"

namespace spillway::kernels::cpu {
namespace {

using test::Matrix;

struct Sizes {
  std::int64_t m, n, k;
};

constexpr Sizes kSizes[] = {{1, 1, 1},   {1, 8, 16},    {3, 5, 7},    {15, 9, 33},   {16, 64, 17},
                            {17, 7, 64}, {32, 100, 31}, {33, 65, 40}, {100, 24, 96}, {128, 130, 48}};

/// alpha · a bᵀ + beta · c of rows wider than the operands. Owns its memory.
struct Product {
  explicit Product(const Sizes& s, float its_beta = 2.0F)
      : sizes(s),
        beta(its_beta),
        a(Matrix::random(s.m, s.k + 3, 1)),
        b(Matrix::random(s.n, s.k + 1, 2)),
        c(Matrix::random(s.m, s.n + 2, 3)) {}

  Gemm op() {
    return {.transpose_b = true,
            .m = sizes.m,
            .n = sizes.n,
            .k = sizes.k,
            .alpha = 0.5F,
            .a = a.values.data(),
            .a_stride = a.columns,
            .b = b.values.data(),
            .b_stride = b.columns,
            .beta = beta,
            .c = c.values.data(),
            .c_stride = c.columns};
  }

  Sizes sizes;
  float beta;
  Matrix a, b, c;
};

std::vector<InstructionSet> sets() {
  std::vector<InstructionSet> result;
  for (const InstructionSet set : {InstructionSet::avx2, InstructionSet::avx512})
    if (supported(set)) result.push_back(set);
  return result;
}

TEST(FewRowsGemm, IsTheChainOfFmaThatItsPageSays_OnEveryInstructionSet) {
  for (const InstructionSet set : sets()) {
    for (const Sizes& sizes : kSizes) {
      ThreadPool pool(2);
      Product product(sizes);
      const Matrix before = product.c;

      few_rows_gemm(pool, product.op(), set);

      for (std::int64_t row = 0; row < sizes.m; ++row) {
        for (std::int64_t column = 0; column < sizes.n; ++column) {
          float sum = 0.0F;
          for (std::int64_t i = 0; i < sizes.k; ++i) sum = std::fma(product.a.at(row, i), product.b.at(column, i), sum);
          ASSERT_EQ(product.c.at(row, column), 0.5F * sum + 2.0F * before.at(row, column))
              << sizes.m << " " << sizes.n << " " << sizes.k << " at " << row << ", " << column;
        }
        for (std::int64_t column = sizes.n; column < before.columns; ++column)
          ASSERT_EQ(product.c.at(row, column), before.at(row, column)) << "beyond the row";
      }
    }
  }
}

TEST(FewRowsGemm, OnAnyNumberOfThreads_HasTheSameBits) {
  if (sets().empty()) GTEST_SKIP() << "this processor has no fma";
  const Sizes sizes{70, 3000, 129};
  Product alone(sizes);
  ThreadPool one(1);
  few_rows_gemm(one, alone.op());
  for (const int threads : {2, 5}) {
    ThreadPool pool(threads);
    Product product(sizes);
    few_rows_gemm(pool, product.op());
    EXPECT_EQ(product.c.values, alone.c.values) << threads;
  }
}

TEST(FewRowsGemm, WithBetaZero_DoesNotReadTheOutput) {
  ThreadPool pool(1);
  for (const InstructionSet set : sets()) {
    Product product({9, 19, 9}, 0.0F);
    product.c = Matrix(9, 21, std::numeric_limits<float>::quiet_NaN());
    few_rows_gemm(pool, product.op(), set);
    for (std::int64_t row = 0; row < 9; ++row)
      for (std::int64_t column = 0; column < 19; ++column) EXPECT_FALSE(std::isnan(product.c.at(row, column)));
  }
}

TEST(FewRowsGemm, OfNoDepth_ScalesTheOutput) {
  ThreadPool pool(1);
  for (const InstructionSet set : sets()) {
    Product product({5, 11, 0});
    const Matrix before = product.c;
    few_rows_gemm(pool, product.op(), set);
    for (std::int64_t column = 0; column < 11; ++column)
      EXPECT_EQ(product.c.at(4, column), 2.0F * before.at(4, column));
  }
}

TEST(FewRowsGemm, IsForFewRowsTimesWeights) {
  if (sets().empty()) GTEST_SKIP() << "this processor has no fma";
  EXPECT_TRUE(has_few_rows({.transpose_b = true, .m = kFewRows, .n = 8, .k = 8}));
  EXPECT_FALSE(has_few_rows({.transpose_b = true, .m = kFewRows + 1, .n = 8, .k = 8}));
  EXPECT_FALSE(has_few_rows({.m = 1, .n = 8, .k = 8}));
  EXPECT_FALSE(has_few_rows({.transpose_a = true, .transpose_b = true, .m = 1, .n = 8, .k = 8}));
}

}  // namespace
}  // namespace spillway::kernels::cpu
