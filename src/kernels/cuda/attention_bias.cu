// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "core/cuda/check.hpp"
#include "kernels/cuda/attention_bias.cuh"
#include "kernels/cuda/attention_storage.cuh"

namespace spillway::kernels::cuda {
namespace {

constexpr int kThreads = 128;
/// Distances whose bucket is among those of `starts` or later ones; later launches write the latter again.
template <typename T>
__global__ void write_bias(BucketStarts starts, AttentionArguments<T> op, float* bias, std::int32_t* bucket) {
  const std::int64_t place = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int head = static_cast<int>(blockIdx.y);
  if (place >= op.distances) return;
  const int b = find_bucket(starts, static_cast<std::int32_t>(place - op.zero_distance));
  if (b < 0) return;
  if (head == 0) bucket[place] = b;
  bias[head * op.distances + place] = attention_float(op.table[static_cast<std::int64_t>(b) * op.heads + head]);
}

/// A warp for each (bucket, head): a lane sums every 32nd block, then the lanes are added pairwise.
__global__ void sum_blocks(const float* d_buckets, std::int64_t sequences, int blocks, int heads, int buckets,
                           float* d_bias) {
  const int index = static_cast<int>(blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32);
  const int lane = static_cast<int>(threadIdx.x % 32);
  if (index >= buckets * heads) return;
  const int bucket = index / heads;
  const int head = index % heads;
  double sum = 0.0;
  for (std::int64_t i = lane; i < sequences * blocks; i += 32) {
    const std::int64_t block = (i / blocks * heads + head) * blocks + i % blocks;
    sum += static_cast<double>(d_buckets[block * buckets + bucket]);
  }
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xFFFFFFFFU, sum, step);
  if (lane == 0) d_bias[index] += static_cast<float>(sum);
}

}  // namespace

void write_attention_bias(cudaStream_t stream, std::span<std::byte> workspace, const Attention& op) {
  if (!op.bias.table || bucket_starts(op).count > 0) return;
  const AttentionLayout layout(sizes_of(op));
  visit_attention_storage(op.bias.table.dtype(), [&]<typename T>(std::type_identity<T>) {
    const AttentionArguments<T> arguments = arguments_of<T>(op, workspace);
    const dim3 grid(static_cast<unsigned>((arguments.distances + kThreads - 1) / kThreads),
                    static_cast<unsigned>(op.heads));
    BucketStarts starts = bucket_starts(op, 0);
    for (; starts.count > 0; starts = bucket_starts(op, starts.first + starts.count)) {
      write_bias<T><<<grid, kThreads, 0, stream>>>(starts, arguments,
                                                   reinterpret_cast<float*>(workspace.data() + layout.bias),
                                                   reinterpret_cast<std::int32_t*>(workspace.data() + layout.bucket));
      spillway::cuda::check(cudaGetLastError(), "write_bias");
    }
  });
}

void add_attention_bias_gradient(cudaStream_t stream, std::span<std::byte> workspace, const AttentionGradient& op,
                                 int blocks) {
  if (!op.d_bias) return;
  const AttentionSizes sizes = sizes_of(op.forward);
  const AttentionLayout layout(sizes);
  constexpr int kWarps = kThreads / 32;
  const auto sums = static_cast<unsigned>(sizes.buckets * sizes.heads);
  sum_blocks<<<(sums + kWarps - 1) / kWarps, kThreads, 0, stream>>>(
      reinterpret_cast<const float*>(workspace.data() + layout.d_buckets), sizes.sequences, blocks,
      static_cast<int>(sizes.heads), static_cast<int>(sizes.buckets), reinterpret_cast<float*>(op.d_bias.data()));
  spillway::cuda::check(cudaGetLastError(), "sum_blocks");
}

}  // namespace spillway::kernels::cuda
