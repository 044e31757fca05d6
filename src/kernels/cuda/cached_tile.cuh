// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cuda/attention_copies.cuh"
#include "kernels/cuda/cached_attention_sums.cuh"

namespace spillway::kernels::cuda {

// Cached keys and values in shared memory, from where the lanes of a warp read them as operands. A row there is a head's columns in pieces
// of 16 bytes; where a row's piece lies depends on the row, so that what 8 lanes read together is in different banks.

template <int kSize>
inline constexpr int kRowPieces = kSize / 8;

/// Where in its row a piece of row `row` lies.
[[nodiscard]] __device__ inline int piece_place(int row, int piece) { return piece ^ (row & 6) ^ ((row & 1) << 2); }

/// Products of a query's pieces and of a tile's keys. \param key  (half) the row of key 8 half + g
template <typename T, int kSize, typename KeyRow>
__device__ void score_keys(float (&products)[2][4], const uint4 (&query)[kSize / 32], const T* rows, int stride,
                           const KeyRow& key) {
  const int c = static_cast<int>(threadIdx.x % 4);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = key(half);
    const T* const from = rows + row * stride;
#pragma unroll
    for (int p = 0; p < kSize / 32; ++p) {
      const uint4 k = *reinterpret_cast<const uint4*>(from + 8 * piece_place(row, 4 * p + c));
      multiply_add<T>(products[half], {{query[p].x, 0, query[p].y, 0}}, k.x, k.y);
      multiply_add<T>(products[half], {{query[p].z, 0, query[p].w, 0}}, k.z, k.w);
    }
  }
}

/// Adds a tile's values with their powers. \param value  (j) the row of key lane_key(c, j)
template <typename T, int kSize, typename ValueRow>
__device__ void add_values(WarpSums<T, kSize>& found, const Powers& powers, const T* rows, int stride,
                           const ValueRow& value) {
  const int g = static_cast<int>(threadIdx.x % 32 / 4);
  int row[4];
#pragma unroll
  for (int j = 0; j < 4; ++j) row[j] = value(j);
#pragma unroll
  for (int p = 0; p < kSize / 64; ++p) {
    uint4 v[4];
#pragma unroll
    for (int j = 0; j < 4; ++j)
      v[j] = *reinterpret_cast<const uint4*>(rows + row[j] * stride + 8 * piece_place(row[j], 8 * p + g));
    found.add(p, powers, v);
  }
}

}  // namespace spillway::kernels::cuda
