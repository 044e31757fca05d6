// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <numeric>
#include <vector>

#include "core/philox.hpp"
#include "core/tensor_view.hpp"
#include "kernels/common.hpp"

namespace spillway::kernels::test {

/// A small f32 tensor that owns its elements.
struct Matrix {
  Matrix(std::int64_t row_count, std::int64_t column_count, float value = 0.0F)
      : rows(row_count), columns(column_count), values(static_cast<std::size_t>(row_count * column_count), value) {}
  /// Standard normal numbers from a stream of their own.
  static Matrix random(std::int64_t rows, std::int64_t columns, std::uint64_t stream) {
    Matrix matrix(rows, columns);
    PhiloxStream draws(7, stream);
    for (float& value : matrix.values) value = draws.normal();
    return matrix;
  }
  float& at(std::int64_t row, std::int64_t column) { return values[static_cast<std::size_t>(row * columns + column)]; }
  [[nodiscard]] float at(std::int64_t row, std::int64_t column) const {
    return values[static_cast<std::size_t>(row * columns + column)];
  }
  /// (rows, columns)
  [[nodiscard]] TensorView view() { return {std::span<float>(values), {rows, columns}}; }
  /// All elements along one axis.
  [[nodiscard]] TensorView flat_view() { return {std::span<float>(values), {rows * columns}}; }

  std::int64_t rows;
  std::int64_t columns;
  std::vector<float> values;
};

/// The position that an op of generation reads: 0 .. 1023. Lives for ever.
inline ConstTensorView at_position(std::int64_t position) {
  static const std::vector<std::int32_t> kPositions = [] {
    std::vector<std::int32_t> all(1024);
    std::iota(all.begin(), all.end(), 0);
    return all;
  }();
  return {std::span(kPositions).subspan(static_cast<std::size_t>(position), 1), {1}};
}

/// Rows of sequences of 1, 2, 3, 1, 2, 3, ... tokens, of samples 5, 8, 11, ...
struct Batch {
  explicit Batch(std::int64_t rows) {
    std::int32_t sequence = 0;
    offsets.push_back(0);
    for (std::int32_t row = 0; row < rows; ++row) {
      samples.push_back(5 + 3 * sequence);
      positions.push_back(row - offsets.back());
      if (positions.back() == sequence % 3 || row + 1 == rows) {
        offsets.push_back(row + 1);
        ++sequence;
      }
    }
    sequences = {.offsets = {std::span<const std::int32_t>(offsets), {sequence + 1}},
                 .row_sample = {std::span<const std::int32_t>(samples), {rows}},
                 .row_position = {std::span<const std::int32_t>(positions), {rows}},
                 .count = sequence,
                 .rows = rows,
                 .longest = 3};
  }
  Batch(const Batch&) = delete;
  Batch& operator=(const Batch&) = delete;

  std::vector<std::int32_t> offsets, samples, positions;
  PackedSequences sequences;
};

/// The factor of one element, from the words of kernels/common.hpp alone.
inline double dropout_factor(const Dropout& dropout, const Batch& batch, std::int64_t row, std::int64_t width,
                             std::int64_t column) {
  if (dropout.probability == 0.0F) return 1.0;
  const auto index = static_cast<std::size_t>(row);
  const auto block = static_cast<std::uint32_t>(batch.positions[index] * ((width + 7) / 8) + column / 8);
  const auto draws =
      Philox::draw(dropout.key, {block, static_cast<std::uint32_t>(batch.samples[index]), dropout.site, 0});
  const auto lane = static_cast<std::size_t>(column % 8);
  const std::uint32_t bits = (draws[lane / 2] >> (16 * (lane % 2))) & 0xFFFFU;
  const auto threshold = static_cast<std::uint32_t>(dropout.probability * 65536.0F + 0.5F);
  return bits >= threshold ? 65536.0 / (65536.0 - threshold) : 0.0;
}

/// (f(x + h) - f(x - h)) / 2h in one element, in double precision. `x` is as before afterwards.
inline double slope(std::vector<double>& x, std::size_t element,
                    const std::function<double(const std::vector<double>&)>& f) {
  constexpr double kStep = 1e-5;
  const double value = x[element];
  x[element] = value + kStep;
  const double above = f(x);
  x[element] = value - kStep;
  const double below = f(x);
  x[element] = value;
  return (above - below) / (2 * kStep);
}

inline std::vector<double> doubles(const std::vector<float>& values) { return {values.begin(), values.end()}; }

}  // namespace spillway::kernels::test
