// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "kernels/adafactor_ops.hpp"
#include "kernels/cpu/rows.hpp"
#include "kernels/cpu/state_format.hpp"
#include "kernels/cpu/wide_sum.hpp"

namespace spillway::kernels::cpu {

/// Adds to `sum` what block_sum(begin, end, double*) gives for each block of a piece of `count` elements, in spans.
template <typename BlockSum>
void add_span_sums(ThreadPool& pool, std::int64_t count, double* sum, const BlockSum& block_sum) {
  constexpr std::int64_t kSpans = 1024, kSpan = kBlocksOfSpan * kSumBlock;
  std::array<double, kSpans> sums;
  for (std::int64_t chunk = 0; chunk < count; chunk += kSpans * kSpan) {
    const std::int64_t here = std::min(kSpans * kSpan, count - chunk);
    parallel_blocks(pool, here, kSpan, [&](std::int64_t begin, std::int64_t end) {
      double& of_span = sums[static_cast<std::size_t>(begin / kSpan)] = 0.0;
      for (std::int64_t at = begin; at < end; at += kSumBlock) {
        double of_block = 0.0;
        block_sum(chunk + at, chunk + std::min(end, at + kSumBlock), &of_block);
        of_span += of_block;
      }
    });
    for (std::int64_t span = 0; span * kSpan < here; ++span) *sum += sums[static_cast<std::size_t>(span)];
  }
}

/// scale · gradient from element `begin` on, in `tile`.
[[gnu::always_inline]] inline const float* read_scaled(const AdafactorGradient& gradient, std::int64_t begin,
                                                       std::int64_t count, float* __restrict tile) {
  const float* values = read_tile(gradient.values, begin, count, tile);
  const float scale = gradient.scale;
  for (std::int64_t i = 0; i < count; ++i) tile[i] = scale * values[i];
  return tile;
}

/// The update before clipping of elements [begin, end) of the piece, in `tile`.
[[gnu::always_inline]] inline void make_update(const AdafactorUpdate& update, std::int64_t begin, std::int64_t end,
                                               float* __restrict tile) {
  read_scaled(update.gradient, begin, end - begin, tile);
  if (update.exp_avg_sq) {
    const float* __restrict second_moment = floats(update.exp_avg_sq) + begin;
    for (std::int64_t i = 0; i < end - begin; ++i) tile[i] /= std::sqrt(second_moment[i]);
    return;
  }
  const MatrixPiece& piece = update.piece;
  for (std::int64_t i = begin; i < end;) {
    const std::int64_t index = piece.tensor_begin + i;
    const std::int64_t row = index / piece.columns, column = index % piece.columns;
    const std::int64_t count = std::min(end - i, piece.columns - column);
    const float row_factor = floats(update.row_factors)[row];
    const float* __restrict column_factors = floats(update.column_factors) + column;
    float* __restrict u = tile + (i - begin);
    for (std::int64_t j = 0; j < count; ++j) u[j] *= row_factor * column_factors[j];
    i += count;
  }
}

}  // namespace spillway::kernels::cpu
