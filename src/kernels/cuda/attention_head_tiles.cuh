// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include "kernels/cuda/attention_bias.cuh"
#include "kernels/cuda/attention_row_facts.cuh"

namespace spillway::kernels::cuda {

/// What a thread block has in shared memory besides the diagonals.
template <typename T, int D, int Warps>
struct HeadTiles {
  static constexpr int kKeys = 16 * Warps;
  OperandTile<T, D, kKeys> k, v;
  OperandTile<T, D> q[2], d_out[2];
  OperandTile<T, kTile, kKeys> d_scores;  // keys, queries
  RowFacts rows[2];
  DistanceWindow<2 * kTile + kKeys> bias[2];  // each for two tiles of queries
  DiagonalSums::Exchange exchange[Warps];

  /// Diagonals of a warp.
  __host__ __device__ static constexpr int diagonals(int query_blocks) { return kTile * query_blocks + 32; }
  /// Shared memory of a thread block.
  static constexpr std::size_t bytes(int query_blocks, bool d_bias) {
    return sizeof(HeadTiles) + (d_bias ? sizeof(float) * Warps * static_cast<std::size_t>(diagonals(query_blocks)) : 0);
  }
  /// Whether the sums by distance fit where k was.
  static constexpr bool holds(int query_blocks) {
    return (static_cast<std::size_t>(kTile) * static_cast<std::size_t>(query_blocks) + kKeys) * 8 <= sizeof(k);
  }
};

/// d_buckets = the diagonals' sums by bucket. `memory`: of 8 bytes for each distance of a query from a key. All threads take part.
template <typename T, int D, int Warps>
__device__ void sum_diagonals(const AttentionGradientArguments<T>& gradient, const AttentionPlace& at,
                              const float* diagonals, void* memory, float* d_buckets) {
  using Tiles = HeadTiles<T, D, Warps>;
  const AttentionArguments<T>& op = gradient.forward;
  const int given = (at.queries + 31) / 32 * 32 + 16;  // diagonals of a warp
  const int count = given - 16 + Tiles::kKeys;
  const int pitch = Tiles::diagonals(op.query_blocks);
  auto* const sums = static_cast<float*>(memory);
  auto* const buckets = reinterpret_cast<int*>(sums + count);
  for (int t = threadIdx.x; t < count; t += 32 * Warps) {
    const int ahead = t - Tiles::kKeys;  // query - key
    float sum = 0.0F;
    for (int warp = 0; warp < Warps && 16 * warp < at.keys; ++warp) {
      const int z = ahead + 16 + 16 * warp;
      if (z >= 0 && z < given) sum += diagonals[warp * pitch + z];
    }
    sums[t] = sum;
    buckets[t] = bucket_of(op, -ahead);
  }
  __syncthreads();
  sum_by_bucket(sums, buckets, count, gradient.buckets, [&](int b, float sum) { d_buckets[b] = sum; });
}

}  // namespace spillway::kernels::cuda
