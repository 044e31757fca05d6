// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/few_rows_gemm.hpp"

#include <algorithm>
#include <array>
#include <memory>
#include <vector>

#include <immintrin.h>

#include "kernels/cpu/octet_tile.hpp"
#include "kernels/cpu/rows.hpp"

namespace spillway::kernels::cpu {
namespace {

constexpr std::int64_t kOutputs = 8;    // rows of b at a time: with two vectors of a's rows, 16 sums in registers
constexpr std::int64_t kRowBlock = 32;  // rows of a at a time
constexpr std::int64_t kLine = 16;      // floats of a cache line
constexpr std::int64_t kWorthATask = std::int64_t{1} << 20;  // multiply-adds: about 10 microseconds

std::int64_t rounded_up(std::int64_t n, std::int64_t to) { return (n + to - 1) / to * to; }

/// The calling thread's, aligned to cache lines.
float* panel_memory(std::int64_t floats) {
  thread_local std::vector<float> memory;
  const auto wanted = static_cast<std::size_t>(floats + kLine);
  if (memory.size() < wanted) {
    std::vector<float>().swap(memory);  // first, so that old and new never exist together
    memory.resize(wanted);
  }
  void* start = memory.data();
  std::size_t space = wanted * sizeof(float);
  return static_cast<float*>(
      std::align(kLine * sizeof(float), static_cast<std::size_t>(floats) * sizeof(float), start, space));
}

/// Rows [first, first + width) of a, width 16 or 32, transposed: (k, width), zeros for rows that a has not got.
struct RowBlock {
  std::int64_t first;
  std::int64_t width;

  static RowBlock at(std::int64_t first, std::int64_t rows) {
    return {first, std::min(kRowBlock, rounded_up(rows - first, 16))};
  }
  [[nodiscard]] float* in(float* panel, std::int64_t k) const { return panel + first * k; }
};

void fill_panel(const Gemm& product, float* panel, std::int64_t begin, std::int64_t end) {
  run_vectorised([&] [[gnu::always_inline]] {
    for (std::int64_t first = 0; first < product.m; first += kRowBlock) {
      const RowBlock block = RowBlock::at(first, product.m);
      float* const to = block.in(panel, product.k);
      for (std::int64_t column = begin; column < end; column += 8) {
        const std::int64_t columns = std::min<std::int64_t>(8, end - column);
        for (std::int64_t row = 0; row < block.width; row += 8) {
          OctetTile tile;
          const float* const from = product.a + (first + row) * product.a_stride + column;
          if (first + row + 8 <= product.m && columns == 8) {
            load_tile(from, product.a_stride, 8, 8, tile);
          } else {
            load_tile(from, product.a_stride, product.m - first - row, columns, tile);
          }
          transpose(tile);
          for (std::int64_t i = 0; i < columns; ++i)
            __builtin_memcpy(to + (column + i) * block.width + row, &tile.rows[i], sizeof(Octet));
        }
      }
    }
  });
}

/// What one tile of sums is made from: `weights` are kOutputs rows, `ahead` the elements from a row to one that comes later.
struct Strips {
  const float* panel;
  std::array<const float*, kOutputs> weights;
  std::int64_t k;
  std::int64_t ahead;
};

/// sums (kOutputs, 16 · kVectors)
template <int kVectors>
[[gnu::target("avx512f")]] void multiply_avx512(const Strips& strips, float* sums) {
  __m512 totals[kOutputs][kVectors];
#pragma GCC unroll 8
  for (int o = 0; o < kOutputs; ++o)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) totals[o][v] = _mm512_setzero_ps();
  const float* x = strips.panel;
  const auto weights = strips.weights;
  for (std::int64_t line = 0; line < strips.k; line += kLine) {
    const std::int64_t end = std::min(line + kLine, strips.k);
#pragma GCC unroll 8
    for (int o = 0; o < kOutputs; ++o) __builtin_prefetch(weights[o] + line + strips.ahead);
    for (std::int64_t i = line; i < end; ++i, x += 16 * kVectors) {
      __m512 rows[kVectors];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) rows[v] = _mm512_load_ps(x + 16 * v);
#pragma GCC unroll 8
      for (int o = 0; o < kOutputs; ++o) {
        const __m512 weight = _mm512_set1_ps(weights[o][i]);
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) totals[o][v] = _mm512_fmadd_ps(rows[v], weight, totals[o][v]);
      }
    }
  }
#pragma GCC unroll 8
  for (int o = 0; o < kOutputs; ++o)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) _mm512_storeu_ps(sums + 16 * (kVectors * o + v), totals[o][v]);
}

/// sums (kOutputs, 16 · kVectors), 4 by 16 at a time: what 16 registers hold.
template <int kVectors>
[[gnu::target("avx2,fma")]] void multiply_avx2(const Strips& strips, float* sums) {
  for (int first = 0; first < kOutputs; first += 4) {
    for (int part = 0; part < kVectors; ++part) {
      __m256 totals[4][2];
#pragma GCC unroll 4
      for (int o = 0; o < 4; ++o) totals[o][0] = totals[o][1] = _mm256_setzero_ps();
      const float* x = strips.panel + 16 * part;
      const float* const weights[4] = {strips.weights[first], strips.weights[first + 1], strips.weights[first + 2],
                                       strips.weights[first + 3]};
      for (std::int64_t i = 0; i < strips.k; ++i, x += 16 * kVectors) {
        const __m256 low = _mm256_load_ps(x), high = _mm256_load_ps(x + 8);
#pragma GCC unroll 4
        for (int o = 0; o < 4; ++o) {
          const __m256 weight = _mm256_set1_ps(weights[o][i]);
          totals[o][0] = _mm256_fmadd_ps(low, weight, totals[o][0]);
          totals[o][1] = _mm256_fmadd_ps(high, weight, totals[o][1]);
        }
      }
#pragma GCC unroll 4
      for (int o = 0; o < 4; ++o) {
        float* const to = sums + 16 * (kVectors * (first + o) + part);
        _mm256_storeu_ps(to, totals[o][0]);
        _mm256_storeu_ps(to + 8, totals[o][1]);
      }
    }
  }
}

void multiply(InstructionSet set, std::int64_t width, const Strips& strips, float* sums) {
  const bool both = width == kRowBlock;
  if (set == InstructionSet::avx512) return both ? multiply_avx512<2>(strips, sums) : multiply_avx512<1>(strips, sums);
  return both ? multiply_avx2<2>(strips, sums) : multiply_avx2<1>(strips, sums);
}

/// alpha · sums + beta · c into c's columns from `column` on.
void write_out(const Gemm& product, const RowBlock& block, std::int64_t column, const float* sums) {
  const std::int64_t outputs = std::min(kOutputs, product.n - column);
  const std::int64_t rows = std::min(block.width, product.m - block.first);
  run_vectorised([&] [[gnu::always_inline]] {
    for (std::int64_t row = 0; row < rows; row += 8) {
      OctetTile tile;
      load_tile(sums + row, block.width, 8, 8, tile);
      transpose(tile);
      for (std::int64_t i = 0; i < std::min<std::int64_t>(8, rows - row); ++i) {
        float* const c = product.c + (block.first + row + i) * product.c_stride + column;
        Octet result = product.alpha * tile.rows[i];
        if (outputs == kOutputs) {
          Octet before{};
          if (product.beta != 0.0F) {
            __builtin_memcpy(&before, c, sizeof before);
            result += product.beta * before;
          }
          __builtin_memcpy(c, &result, sizeof result);
        } else {
          for (std::int64_t o = 0; o < outputs; ++o)
            c[o] = product.beta != 0.0F ? result[o] + product.beta * c[o] : result[o];
        }
      }
    }
  });
}

}  // namespace

bool has_few_rows(const Gemm& product) noexcept {
  return product.transpose_b && !product.transpose_a && product.m <= kFewRows &&
         widest_instruction_set() != InstructionSet::baseline;
}

void few_rows_gemm(ThreadPool& pool, const Gemm& product, InstructionSet set) {
  if (product.m == 0 || product.n == 0) return;
  const std::int64_t padded_rows = rounded_up(product.m, 16);
  float* const panel = panel_memory(padded_rows * product.k);
  parallel_blocks(pool, product.k, std::max<std::int64_t>(8, kWorthATask / 32 / padded_rows / 8 * 8),
                  [&](std::int64_t begin, std::int64_t end) { fill_panel(product, panel, begin, end); });

  const std::int64_t work_of_one = std::max<std::int64_t>(1, padded_rows * product.k);
  parallel_blocks(
      pool, product.n, rounded_up(kWorthATask / work_of_one + 1, kOutputs), [&](std::int64_t begin, std::int64_t end) {
        alignas(64) std::array<float, kOutputs * kRowBlock> sums;
        for (std::int64_t column = begin; column < end; column += kOutputs) {
          Strips strips{.panel = panel, .weights = {}, .k = product.k, .ahead = kOutputs * product.b_stride};
          for (std::int64_t o = 0; o < kOutputs; ++o)
            strips.weights[static_cast<std::size_t>(o)] =
                product.b + std::min(column + o, product.n - 1) * product.b_stride;
          for (std::int64_t first = 0; first < product.m; first += kRowBlock) {
            const RowBlock block = RowBlock::at(first, product.m);
            strips.panel = block.in(panel, product.k);
            multiply(set, block.width, strips, sums.data());
            write_out(product, block, column, sums.data());
            strips.ahead = 0;  // the rows that come next have been asked for
          }
        }
      });
}

std::size_t few_rows_workspace_bytes(std::int64_t widest) noexcept {
  return static_cast<std::size_t>(kFewRows * widest + kLine) * sizeof(float);
}

}  // namespace spillway::kernels::cpu
