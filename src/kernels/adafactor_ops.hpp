// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/optimizer_state.hpp"

namespace spillway::kernels {

/// Sums of a piece are made in fp64 in an order that many threads can follow and that depends on nothing but the piece. A block is 256
/// numbers, number i of which goes to sum i % 8 before the eight are added, halves first. Blocks are added in order, and where a whole
/// piece is summed in spans of 64 blocks first. Columns are added in spans of 64 rows first.
inline constexpr std::int64_t kSumBlock = 256;
inline constexpr std::int64_t kBlocksOfSpan = 64;
inline constexpr std::int64_t kRowsOfSpan = 64;

/// A contiguous piece of one matrix (or of a vector: rows 1), as a rank or an extent holds it.
struct MatrixPiece {
  std::int64_t rows = 1, columns = 0;  // of the whole tensor
  std::int64_t tensor_begin = 0;       // flat index in the tensor of the piece's first element
  std::int64_t count = 0;              // elements of the piece, at least 1

  [[nodiscard]] std::int64_t first_row() const noexcept { return tensor_begin / columns; }
  /// Rows that the piece has any element of.
  [[nodiscard]] std::int64_t touched_rows() const noexcept {
    return (tensor_begin + count - 1) / columns - first_row() + 1;
  }
};

/// g = gradient_scale · gradient in fp32, of the piece's elements (count).
struct AdafactorGradient {
  ConstTensorView values;  // f32, bf16 or f16
  float scale = 1.0F;      // clipping
};

/// Adds the piece's sums to what is there. Blocks are counted from where a row or the piece begins, spans of rows from the first that the
/// piece touches:
///   row_sums[r - first_row] += Σ (g² + eps1) over row r, column_sums[c] += Σ (g² + eps1) over column c, parameter_sum += Σ p²
/// Whole-tensor means are these sums, over all pieces of all ranks in rank order, by columns, rows and elements.
struct AdafactorSums {
  MatrixPiece piece;
  AdafactorGradient gradient;
  double eps1 = 1e-30;
  TensorView row_sums;       // f64 (touched_rows()); not given, with column_sums, for vectors
  TensorView column_sums;    // f64 (columns)
  ParameterView parameter;   // (count); not given without parameter_sum
  TensorView parameter_sum;  // f64 (1); not given if parameters are not scaled
};

/// The factored second moment of a matrix from its sums, and what its update needs of it (_approx_sq_grad):
///   exp_avg_sq_row = beta2 · exp_avg_sq_row + (1 - beta2) · row_sums / columns, exp_avg_sq_col likewise
///   row_factors = (exp_avg_sq_row / mean(exp_avg_sq_row))^-½, column_factors = exp_avg_sq_col^-½
/// The mean is a sum of blocks.
struct AdafactorFactors {
  ConstTensorView row_sums, column_sums;      // f64 (rows), (columns): of the whole tensor
  double beta2 = 0.0;                         // adafactor_beta2
  TensorView exp_avg_sq_row, exp_avg_sq_col;  // f32 (rows), (columns)
  TensorView row_factors, column_factors;     // f32 (rows), (columns)
};

/// The second moment of a vector's piece: exp_avg_sq = beta2 · exp_avg_sq + (1 - beta2)(g² + eps1).
struct AdafactorSecondMoment {
  AdafactorGradient gradient;
  double beta2 = 0.0;
  double eps1 = 1e-30;
  TensorView exp_avg_sq;  // f32 (count)
};

/// The update before clipping: u = row_factor · column_factor · g of a matrix, g / sqrt(exp_avg_sq) of a vector.
struct AdafactorUpdate {
  MatrixPiece piece;
  AdafactorGradient gradient;
  ConstTensorView row_factors, column_factors;  // f32 (rows), (columns): of the whole tensor; not given for vectors
  ConstTensorView exp_avg_sq;                   // f32 (count); not given for matrices
};

/// Adds Σ u² over the piece, in spans of blocks, to `sum`, f64 (1).
struct AdafactorUpdateSum {
  AdafactorUpdate update;
  TensorView sum;
};

/// p = p · (1 - lr · weight_decay) - (lr / divisor) · u.
struct AdafactorStep {
  AdafactorUpdate update;
  ParameterView parameter;     // (count)
  double learning_rate = 0.0;  // adafactor_learning_rate
  double divisor = 1.0;        // max(1, rms(u) / clip_threshold), adafactor_divisor
  double weight_decay = 0.0;
};

/// What transformers.optimization.Adafactor's settings, with beta1 = None, make of a step's numbers. Defaults are those of that class.
struct AdafactorSettings {
  double eps1 = 1e-30;          // added to g²
  double eps2 = 1e-3;           // least rms(p) that scale_parameter multiplies with
  double clip_threshold = 1.0;  // largest rms(u)
  double decay_rate = -0.8;     // beta2 = 1 - t^decay_rate
  bool scale_parameter = true;  // learning rates are relative to rms(p)
  bool relative_step = true;    // the learning rate is min(1e-2, 1 / sqrt(t)); the given one is not used
  bool warmup_init = false;     // with relative_step: min(1e-6 · t, 1 / sqrt(t))
};

/// \param step  t, counted from 1
[[nodiscard]] inline double adafactor_beta2(const AdafactorSettings& settings, std::int64_t step) {
  return 1.0 - std::pow(static_cast<double>(step), settings.decay_rate);
}

/// \param given          the schedule's learning rate
/// \param parameter_rms  of the whole tensor before the step; any number without scale_parameter
[[nodiscard]] inline double adafactor_learning_rate(const AdafactorSettings& settings, double given, std::int64_t step,
                                                    double parameter_rms) {
  const auto t = static_cast<double>(step);
  const double rate =
      settings.relative_step ? std::min(settings.warmup_init ? 1e-6 * t : 1e-2, 1.0 / std::sqrt(t)) : given;
  return settings.scale_parameter ? rate * std::max(settings.eps2, parameter_rms) : rate;
}

/// \param update_rms  of the whole tensor
[[nodiscard]] inline double adafactor_divisor(const AdafactorSettings& settings, double update_rms) {
  return std::max(1.0, update_rms / settings.clip_threshold);
}

}  // namespace spillway::kernels
