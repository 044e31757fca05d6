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

/// Sums are made over these blocks of the unit and then added in order, so that pieces cut at their edges have the same bits.
inline constexpr std::int64_t kSumBlock = 256;

/// The end of the block that element `i` of a piece lies in, counted from the piece's start.
/// \param first  index in the unit of the piece's first element
[[gnu::always_inline]] inline std::int64_t sum_block_end(std::int64_t first, std::int64_t i) {
  return (first + i) / kSumBlock * kSumBlock + kSumBlock - first;
}

/// Adds to `sum` what block_sum(begin, end, double*) gives for each block of a piece, in order.
template <typename BlockSum>
void add_block_sums(ThreadPool& pool, std::int64_t first, std::int64_t count, double* sum, const BlockSum& block_sum) {
  constexpr std::int64_t kBlocks = 4096, kBlocksOfTask = 64;
  std::array<double, kBlocks> sums;
  const std::int64_t offset = first % kSumBlock;  // of the piece in its first block
  const std::int64_t blocks = (offset + count + kSumBlock - 1) / kSumBlock;
  for (std::int64_t chunk = 0; chunk < blocks; chunk += kBlocks) {
    const std::int64_t here = std::min(kBlocks, blocks - chunk);
    parallel_blocks(pool, here, kBlocksOfTask, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t block = begin; block < end; ++block) {
        const std::int64_t start = (chunk + block) * kSumBlock - offset;
        block_sum(std::max<std::int64_t>(0, start), std::min(count, start + kSumBlock),
                  &sums[static_cast<std::size_t>(block)]);
      }
    });
    for (std::int64_t block = 0; block < here; ++block) *sum += sums[static_cast<std::size_t>(block)];
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
