// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/cpu/thread_pool.hpp"

namespace spillway::kernels::cpu {

/// c = alpha · op(a) op(b) + beta · c, all row-major fp32: op(a) (m, k), op(b) (k, n), c (m, n).
/// A transposed a lies in memory as (k, m), a transposed b as (n, k). c is not read if beta is 0.
struct Gemm {
  bool transpose_a = false;
  bool transpose_b = false;
  std::int64_t m = 0, n = 0, k = 0;
  float alpha = 1.0F;
  const float* a = nullptr;
  std::int64_t a_stride = 0;  // elements from row to row in memory; likewise b, c
  const float* b = nullptr;
  std::int64_t b_stride = 0;
  float beta = 0.0F;
  float* c = nullptr;
  std::int64_t c_stride = 0;
};

/// Rows and columns of c that one task makes, from the product's shape alone.
struct GemmTile {
  std::int64_t m;
  std::int64_t n;
};
[[nodiscard]] GemmTile gemm_tile(std::int64_t m, std::int64_t n, std::int64_t k) noexcept;

/// On the calling thread alone. \throws Error if a size is beyond BLAS's 32-bit integers
void gemm(const Gemm& product);

/// On the pool: c in tiles whose sizes depend on m, n and k only, so that every element's sum has the same order on
/// any number of threads. Few rows times a transposed b go to few_rows_gemm.
void gemm(ThreadPool& pool, const Gemm& product);

}  // namespace spillway::kernels::cpu
