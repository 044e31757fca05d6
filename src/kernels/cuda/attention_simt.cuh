// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/cuda/attention_tile.cuh"
#include "kernels/cuda/storage.cuh"

namespace spillway::kernels::cuda {

// The fp32 form of attention, for every storage and head size: 256 threads, of which each has 4 x 4 elements of a tile. A CTA makes
// kTile columns of its results; the CTAs of a wider head make the same scores each.

inline constexpr int kSimtThreads = 256;
inline constexpr int kSimtColumns = kTile + 4;  // of a row in shared memory: 16-byte aligned
inline constexpr int kSimtChunk = 16;           // columns of operands at a time

struct SimtShared {
  alignas(16) float left[kSimtChunk][kSimtColumns];  // operands of scores, transposed
  alignas(16) float right[kSimtChunk][kSimtColumns];
  alignas(16) float scores[kTile][kSimtColumns];   // the inner index of the second product first
  alignas(16) float operand[kTile][kSimtColumns];  // its other operand
  TileExtras extras;
};

using SimtTile = float[4][4];

/// Where in a tile the calling thread's elements are: rows row() to row() + 3, columns column() to column() + 3.
__device__ inline int simt_row() { return static_cast<int>(threadIdx.x) / 16 * 4; }
__device__ inline int simt_column() { return static_cast<int>(threadIdx.x) % 16 * 4; }

/// tile[r][c] += Σ_n left[n][r] right[n][c], over `count` rows.
__device__ inline void add_products(SimtTile& tile, const float (*left)[kSimtColumns],
                                    const float (*right)[kSimtColumns], int count) {
  const int row = simt_row();
  const int column = simt_column();
#pragma unroll 4
  for (int n = 0; n < count; ++n) {
    const float4 a = *reinterpret_cast<const float4*>(&left[n][row]);
    const float4 b = *reinterpret_cast<const float4*>(&right[n][column]);
    const float as[4] = {a.x, a.y, a.z, a.w};
    const float bs[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
    for (int r = 0; r < 4; ++r) {
#pragma unroll
      for (int c = 0; c < 4; ++c) tile[r][c] = __fmaf_rn(as[r], bs[c], tile[r][c]);
    }
  }
}

template <typename T>
__device__ void load_transposed(const TileRows<T>& rows, int begin, int head_size, float (*chunk)[kSimtColumns]) {
  for (int t = threadIdx.x; t < kTile * kSimtChunk; t += kSimtThreads) {
    const int row = t / kSimtChunk;
    const int column = t % kSimtChunk;
    const bool inside = row < rows.valid && begin + column < head_size;
    chunk[column][row] = inside ? widen(rows.first[row * rows.stride + begin + column]) : 0.0F;
  }
}

/// tile = left rightᵀ over all columns of a head. Begins and goes on with meetings of all threads.
template <typename T>
__device__ void scores_of(SimtTile& tile, const TileRows<T>& left, const TileRows<T>& right, int head_size,
                          SimtShared& shared) {
#pragma unroll
  for (int i = 0; i < 16; ++i) tile[i / 4][i % 4] = 0.0F;
  for (int begin = 0; begin < head_size; begin += kSimtChunk) {
    __syncthreads();
    load_transposed(left, begin, head_size, shared.left);
    load_transposed(right, begin, head_size, shared.right);
    __syncthreads();
    add_products(tile, shared.left, shared.right, kSimtChunk);
  }
}

/// operand = columns [begin, begin + kTile) of the rows.
template <typename T>
__device__ void load_operand(const TileRows<T>& rows, int begin, int head_size, SimtShared& shared) {
  for (int t = threadIdx.x; t < kTile * kTile; t += kSimtThreads) {
    const int row = t / kTile;
    const int column = t % kTile;
    const bool inside = row < rows.valid && begin + column < head_size;
    shared.operand[row][column] = inside ? widen(rows.first[row * rows.stride + begin + column]) : 0.0F;
  }
}

/// Writes the thread's elements, times `factor`, to columns from `begin` on.
template <typename T>
__device__ void store_tile(const SimtTile& tile, const float (&factor)[4], const TileRows<T>& rows, int begin,
                           int head_size) {
#pragma unroll
  for (int r = 0; r < 4; ++r) {
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const int row = simt_row() + r;
      const int column = begin + simt_column() + c;
      if (row < rows.valid && column < head_size) {
        rows.first[row * rows.stride + column] = narrow<T>(tile[r][c] * factor[r]);
      }
    }
  }
}

/// The tile for the second product with the tile's columns inside: scores[c][r] = tile[r][c].
__device__ inline void share_transposed(const SimtTile& tile, SimtShared& shared) {
#pragma unroll
  for (int c = 0; c < 4; ++c) {
    *reinterpret_cast<float4*>(&shared.scores[simt_column() + c][simt_row()]) =
        make_float4(tile[0][c], tile[1][c], tile[2][c], tile[3][c]);
  }
}

}  // namespace spillway::kernels::cuda
