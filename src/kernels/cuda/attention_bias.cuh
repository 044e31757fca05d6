// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>

#include <cuda_runtime_api.h>

#include "kernels/cuda/attention_tile.cuh"

namespace spillway::kernels::cuda {

/// Writes the bias of every head and distance, and the bucket of every distance, into the workspace, where `op` has a table of more
/// buckets than travel with a launch.
void write_attention_bias(cudaStream_t stream, std::span<std::byte> workspace, const Attention& op);

/// d_bias += the blocks' sums, in an order that depends on nothing but their number. \param blocks  of each sequence
void add_attention_bias_gradient(cudaStream_t stream, std::span<std::byte> workspace, const AttentionGradient& op,
                                 int blocks);

/// take(b, the sum of sums[t] where buckets[t] is b) for each bucket b by one thread, the same each time: a warp for each, which adds up
/// its lanes in the same order whatever the GPU does.
template <typename Take>
__device__ void sum_by_bucket(const float* sums, const int* buckets, int count, int bucket_count, const Take& take) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  for (int b = static_cast<int>(threadIdx.x / 32); b < bucket_count; b += static_cast<int>(blockDim.x / 32)) {
    float sum = 0.0F;
    for (int t = lane; t < count; t += 32) sum += buckets[t] == b ? sums[t] : 0.0F;
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xFFFFFFFFU, sum, step);
    if (lane == 0) take(b, sum);
  }
}

/// What a CTA needs to sum a tile's gradients of scores by bucket, in shared memory.
struct BucketExtras {
  float diagonal[2 * kTile];  // sums by distance
  int bucket[2 * kTile];      // of these distances
};

/// sums[bucket(j - i)] += d_score(i, j) over a tile of scores; `sums` is the CTA's own. Each diagonal is summed by one thread along the
/// queries: always in the same order. d_score must be 0 where there is no query or no
/// visible key. All threads take part, and meet on the way; they must meet before d_score or `extras` change.
template <typename T, typename DScore>
__device__ void add_tile_to_buckets(const AttentionGradientArguments<T>& op, int query, int key, BucketExtras& extras,
                                    float* sums, const DScore& d_score) {
  constexpr int kDistances = 2 * kTile - 1;
  for (int t = threadIdx.x; t < kDistances; t += blockDim.x) {
    const int shift = t - (kTile - 1);
    extras.bucket[t] = bucket_of(op.forward, key - query + shift);
    float sum = 0.0F;
    for (int i = max(0, -shift); i < min(kTile, kTile - shift); ++i) sum += d_score(i, i + shift);
    extras.diagonal[t] = sum;
  }
  __syncthreads();
  sum_by_bucket(extras.diagonal, extras.bucket, kDistances, op.buckets, [&](int b, float sum) { sums[b] += sum; });
}

}  // namespace spillway::kernels::cuda
