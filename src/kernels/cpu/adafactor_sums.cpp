// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "kernels/cpu/adafactor.hpp"
#include "kernels/cpu/adafactor_tiles.hpp"
#include "kernels/cpu/rows.hpp"

namespace spillway::kernels::cpu {
namespace {

constexpr std::int64_t kChunk = 1 << 19;  // elements that both sums read while they are in the cache
constexpr std::int64_t kStripe = 128;     // columns of one task

double* doubles(const TensorView& view) { return reinterpret_cast<double*>(view.data()); }

/// The part of a row that lies in the piece, counted from the piece's start.
struct RowPart {
  std::int64_t begin, end;
};

[[gnu::always_inline]] inline RowPart row_part(const MatrixPiece& piece, std::int64_t row) {
  const std::int64_t begin = row * piece.columns - piece.tensor_begin;
  return {std::max<std::int64_t>(0, begin), std::min(piece.count, begin + piece.columns)};
}

[[gnu::always_inline]] inline void add_rows(const AdafactorSums& op, std::int64_t begin, std::int64_t end) {
  alignas(64) float tile[kSumBlock];
  for (std::int64_t row = begin; row < end; ++row) {
    double& sum = doubles(op.row_sums)[row - op.piece.first_row()];
    const RowPart part = row_part(op.piece, row);
    for (std::int64_t i = part.begin; i < part.end;) {
      const std::int64_t count = std::min(part.end - i, kSumBlock);
      sum += sum_of_squares_of(read_scaled(op.gradient, i, count, tile), count, op.eps1);
      i += count;
    }
  }
}

/// Rows [begin, end) of one stripe of columns, a span's or fewer.
[[gnu::always_inline]] inline void add_span_of_columns(const AdafactorSums& op, std::int64_t begin, std::int64_t end,
                                                       std::int64_t first_column) {
  alignas(64) float tile[kStripe];
  alignas(64) double of_span[kStripe] = {};
  const double eps1 = op.eps1;
  for (std::int64_t row = begin; row < end; ++row) {
    const std::int64_t row_begin = row * op.piece.columns - op.piece.tensor_begin;
    const RowPart part = row_part(op.piece, row);
    const std::int64_t from = std::max(part.begin, row_begin + first_column);
    const std::int64_t count = std::min(part.end, row_begin + first_column + kStripe) - from;
    if (count <= 0) continue;
    const float* __restrict g = read_scaled(op.gradient, from, count, tile);
    double* __restrict sums = of_span + (from - row_begin - first_column);
    for (std::int64_t i = 0; i < count; ++i) {
      const auto wide = static_cast<double>(g[i]);
      sums[i] += wide * wide + eps1;
    }
  }
  double* __restrict sums = doubles(op.column_sums) + first_column;
  const std::int64_t columns = std::min(kStripe, op.piece.columns - first_column);
  for (std::int64_t i = 0; i < columns; ++i) sums[i] += of_span[i];
}

[[gnu::always_inline]] inline void sum_parameters(const ParameterView& parameter, std::int64_t begin, std::int64_t end,
                                                  double* sum) {
  alignas(64) float tile[kSumBlock];
  *sum = sum_of_squares_of(read_tile(parameter, begin, end - begin, tile), end - begin);
}

}  // namespace

void adafactor_sums(ThreadPool& pool, const AdafactorSums& op, InstructionSet set) {
  const MatrixPiece& piece = op.piece;
  if (op.row_sums) {
    const std::int64_t end = piece.first_row() + piece.touched_rows();
    const std::int64_t rows_of_chunk = std::max(kRowsOfSpan, kChunk / piece.columns / kRowsOfSpan * kRowsOfSpan);
    for (std::int64_t chunk = piece.first_row(); chunk < end; chunk += rows_of_chunk) {
      const std::int64_t chunk_end = std::min(end, chunk + rows_of_chunk);
      parallel_rows(pool, chunk_end - chunk, piece.columns, [&](std::int64_t first, std::int64_t last) {
        vectorised_for<add_rows>(set, op, chunk + first, chunk + last);
      });
      parallel_blocks(pool, piece.columns, kStripe, [&](std::int64_t column, std::int64_t) {
        for (std::int64_t span = chunk; span < chunk_end; span += kRowsOfSpan)
          vectorised_for<add_span_of_columns>(set, op, span, std::min(chunk_end, span + kRowsOfSpan), column);
      });
    }
  }
  if (op.parameter_sum)
    add_span_sums(pool, piece.count, doubles(op.parameter_sum), [&](std::int64_t begin, std::int64_t end, double* sum) {
      vectorised_for<sum_parameters>(set, op.parameter, begin, end, sum);
    });
}

}  // namespace spillway::kernels::cpu
