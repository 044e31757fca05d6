// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/mixed_products.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "core/error.hpp"
#include "core/round_up.hpp"
#include "kernels/cuda/elementwise.hpp"
#include "kernels/cuda/wide_pieces.hpp"
#include "kernels/cuda/workspace.hpp"

namespace spillway::kernels::cuda {
namespace {

/// Rows of dy that are split at a time.
std::int64_t rows_at_a_time(std::span<std::byte> pieces, std::int64_t row_bytes) {
  if (pieces.size() < kPieceBytes)
    throw Error(
        fmt::format("a product of f32 and bf16 needs a workspace of {} bytes, found {}", kPieceBytes, pieces.size()));
  constexpr std::int64_t kEdge = 256;  // that the second part of the workspace may be moved by
  const std::int64_t rows = (static_cast<std::int64_t>(kPieceBytes) - kEdge) / std::max<std::int64_t>(row_bytes, 1);
  if (rows == 0)
    throw Error(fmt::format("a product of f32 and bf16 needs {} bytes for a row, and has {}", row_bytes, kPieceBytes));
  return rows;
}

}  // namespace

void mixed_input_gradient(cudaStream_t stream, MatrixProducts& products, std::span<std::byte> pieces,
                          const LinearInputGradient& op) {
  const std::int64_t rows = op.dy.extent(0), out = op.dy.extent(1), in = op.w.extent(1);
  const std::int64_t step = rows_at_a_time(pieces, out * 2 + in * 4);
  for (std::int64_t begin = 0; begin < rows; begin += step) {
    const std::int64_t end = std::min(rows, begin + step), count = end - begin;
    const TensorView piece(pieces.data(), DType::bf16, {count, out});
    const TensorView sums(pieces.data() + round_up(piece.bytes(), 256), DType::f32, {count, in});
    Output output = Output::overwrite;
    for (const Piece part : {Piece::low, Piece::middle, Piece::high}) {  // the small ones first
      take_piece(stream, part, op.dy.rows(begin, end), piece);
      products.run(stream, {.alpha = op.alpha, .a = piece, .b = op.w, .output = output, .c = sums});
      output = Output::add;
    }
    round_sums(stream, sums, op.output, op.dx.rows(begin, end));
  }
}

void mixed_weight_gradient(cudaStream_t stream, MatrixProducts& products, std::span<std::byte> pieces,
                           const LinearWeightGradient& op) {
  const std::int64_t rows = op.dy.extent(0), out = op.dy.extent(1);
  const std::int64_t step = rows_at_a_time(pieces, out * 2);
  Output output = op.output;
  if (rows == 0 && output == Output::overwrite) fill_zero(stream, op.dw);
  for (std::int64_t begin = 0; begin < rows; begin += step) {
    const std::int64_t end = std::min(rows, begin + step);
    const TensorView piece(pieces.data(), DType::bf16, {end - begin, out});
    for (const Piece part : {Piece::low, Piece::middle, Piece::high}) {
      take_piece(stream, part, op.dy.rows(begin, end), piece);
      products.run(stream, {.transpose_a = true,
                            .alpha = op.alpha,
                            .a = piece,
                            .b = op.x.rows(begin, end),
                            .output = output,
                            .c = op.dw});
      output = Output::add;
    }
  }
}

}  // namespace spillway::kernels::cuda
