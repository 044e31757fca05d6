// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/gemm.hpp"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "core/error.hpp"
#include "kernels/kernel_fixtures.hpp"

namespace spillway::kernels::cpu {
namespace {

using test::Matrix;

double reference(const Gemm& g, double before, std::int64_t row, std::int64_t column) {
  double sum = 0.0;
  for (std::int64_t i = 0; i < g.k; ++i) {
    const float a = g.transpose_a ? g.a[i * g.a_stride + row] : g.a[row * g.a_stride + i];
    const float b = g.transpose_b ? g.b[column * g.b_stride + i] : g.b[i * g.b_stride + column];
    sum += static_cast<double>(a) * static_cast<double>(b);
  }
  return static_cast<double>(g.alpha) * sum + static_cast<double>(g.beta) * before;
}

struct Sizes {
  std::int64_t m, n, k;
};

TEST(Gemm, EveryTransposition_IsTheProductInDoublePrecision) {
  ThreadPool pool(2);
  for (const Sizes s : {Sizes{1, 1, 1}, Sizes{1, 24, 5}, Sizes{7, 3, 24}, Sizes{37, 29, 0}, Sizes{150, 321, 97}}) {
    for (const bool transpose_a : {false, true}) {
      for (const bool transpose_b : {false, true}) {
        const Matrix a = Matrix::random(transpose_a ? s.k : s.m, (transpose_a ? s.m : s.k) + 3, 1);
        const Matrix b = Matrix::random(transpose_b ? s.n : s.k, (transpose_b ? s.k : s.n) + 1, 2);
        const Matrix before = Matrix::random(s.m, s.n + 2, 3);
        Matrix c = before;
        const Gemm product{.transpose_a = transpose_a,
                           .transpose_b = transpose_b,
                           .m = s.m,
                           .n = s.n,
                           .k = s.k,
                           .alpha = 0.5F,
                           .a = a.values.data(),
                           .a_stride = a.columns,
                           .b = b.values.data(),
                           .b_stride = b.columns,
                           .beta = 2.0F,
                           .c = c.values.data(),
                           .c_stride = c.columns};

        gemm(pool, product);

        for (std::int64_t row = 0; row < s.m; ++row) {
          for (std::int64_t column = 0; column < s.n; ++column) {
            const double expected = reference(product, static_cast<double>(before.at(row, column)), row, column);
            ASSERT_NEAR(static_cast<double>(c.at(row, column)), expected, 2e-5) << s.m << " " << s.n << " " << s.k;
          }
          ASSERT_EQ(c.at(row, s.n), before.at(row, s.n)) << "beyond the row";
        }
      }
    }
  }
}

TEST(Gemm, WithBetaZero_DoesNotReadTheOutput) {
  ThreadPool pool(1);
  const Matrix a = Matrix::random(9, 9, 1), b = Matrix::random(9, 9, 2);
  Matrix c(9, 9, std::numeric_limits<float>::quiet_NaN());

  gemm(pool, {.m = 9,
              .n = 9,
              .k = 9,
              .a = a.values.data(),
              .a_stride = 9,
              .b = b.values.data(),
              .b_stride = 9,
              .c = c.values.data(),
              .c_stride = 9});

  for (const float value : c.values) EXPECT_FALSE(std::isnan(value));
}

TEST(Gemm, OnOneAndThreeThreads_GivesTheSameBits) {
  ThreadPool one(1), three(3);
  const Matrix a = Matrix::random(301, 260, 1), b = Matrix::random(517, 260, 2);
  Matrix c1(301, 517), c3(301, 517);
  Gemm product{.transpose_b = true,
               .m = 301,
               .n = 517,
               .k = 260,
               .a = a.values.data(),
               .a_stride = 260,
               .b = b.values.data(),
               .b_stride = 260,
               .c = c1.values.data(),
               .c_stride = 517};

  gemm(one, product);
  product.c = c3.values.data();
  gemm(three, product);

  EXPECT_EQ(c1.values, c3.values);
}

TEST(Gemm, BeyondThirtyTwoBits_Throws) { EXPECT_THROW(gemm({.m = std::int64_t{1} << 31, .n = 1, .k = 1}), Error); }

TEST(GemmTiles, OfFewRows_HoldAllOfThem_SoThatWeightsArePackedOnce) {
  for (const std::int64_t out : {512, 1536, 2048, 32128}) EXPECT_EQ(gemm_tile(224, out, 512).m, 224) << out;
  for (const std::int64_t out : {512, 1536, 2048}) EXPECT_LT(gemm_tile(224, out, 512).n, out) << "work for two threads";
}

}  // namespace
}  // namespace spillway::kernels::cpu
