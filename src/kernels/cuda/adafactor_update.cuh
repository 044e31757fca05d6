// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/adafactor_ops.hpp"
#include "kernels/cuda/eight.cuh"

namespace spillway::kernels::cuda {

/// An AdafactorGradient.
struct ScaledNumbers {
  Numbers values;
  float scale;

  static ScaledNumbers of(const AdafactorGradient& gradient) { return {Numbers::of(gradient.values), gradient.scale}; }
  [[nodiscard]] __device__ float at(std::int64_t i) const { return __fmul_rn(scale, values.at(i)); }
  __device__ void read(const Eight& at, float (&to)[kEach]) const {
    values.read(at, to);
    for (float& value : to) value = __fmul_rn(scale, value);
  }
};

/// An AdafactorUpdate, that makes one element's update from its gradient.
struct Update {
  const float* row_factors;     // nullptr of a vector
  const float* column_factors;  // nullptr of a vector
  const float* exp_avg_sq;      // nullptr of a matrix
  std::int64_t tensor_begin, columns;

  static Update of(const AdafactorUpdate& update) {
    return {reinterpret_cast<const float*>(update.row_factors.data()),
            reinterpret_cast<const float*>(update.column_factors.data()),
            reinterpret_cast<const float*>(update.exp_avg_sq.data()), update.piece.tensor_begin, update.piece.columns};
  }

  /// Where an element lies in the matrix; moving on takes no division.
  struct Place {
    std::int64_t row, column;
    __device__ void advance(std::int64_t by, std::int64_t columns) {
      for (column += by; column >= columns; column -= columns) ++row;
    }
    /// By at most a row.
    __device__ void advance_once(std::int64_t by, std::int64_t columns) {
      column += by;
      const bool passes = column >= columns;
      row += passes ? 1 : 0;
      column -= passes ? columns : 0;
    }
  };
  [[nodiscard]] __device__ Place place_of(std::int64_t i) const {
    return {(tensor_begin + i) / columns, (tensor_begin + i) % columns};
  }
  [[nodiscard]] __device__ float make(float gradient, std::int64_t i, const Place& place) const {
    if (exp_avg_sq != nullptr) return __fdiv_rn(gradient, __fsqrt_rn(exp_avg_sq[i]));
    return of_matrix(gradient, place);
  }
  [[nodiscard]] __device__ float of_matrix(float gradient, const Place& place) const {
    return __fmul_rn(gradient, __fmul_rn(row_factors[place.row], column_factors[place.column]));
  }
};

}  // namespace spillway::kernels::cuda
