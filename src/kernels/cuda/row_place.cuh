// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cuda/octet.cuh"
#include "kernels/cuda/row_grid.hpp"

namespace spillway::kernels::cuda {

/// Where a thread of a RowGrid works.
struct RowPlace {
  __device__ explicit RowPlace(int width)
      : row(std::int64_t{blockIdx.x} * blockDim.y + threadIdx.y),
        first(static_cast<int>(blockIdx.y * blockDim.x * kOctetsOfThread + threadIdx.x)),
        width_(width) {}
  [[nodiscard]] __device__ int octet(int i) const { return first + i * static_cast<int>(blockDim.x); }
  [[nodiscard]] __device__ int column(int i) const { return octet(i) * kOctet; }
  /// Elements from its i-th octet to the end of the row: below 1 if it has none.
  [[nodiscard]] __device__ int left(int i) const { return width_ - column(i); }

  std::int64_t row;
  int first;

 private:
  int width_;
};

}  // namespace spillway::kernels::cuda
