// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/cuda/check.hpp"
#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/attention_backward_simt.cuh"
#include "kernels/cuda/attention_bias.cuh"
#include "kernels/cuda/attention_d_q_mma.cuh"
#include "kernels/cuda/attention_gradient_mma.cuh"
#include "kernels/cuda/attention_launch.cuh"
#include "kernels/cuda/workspace.hpp"

namespace spillway::kernels::cuda {
namespace {

constexpr int kThreads = 128;

/// delta = out · d_out of each head, a warp for each.
template <typename T>
__global__ void write_delta(AttentionGradientArguments<T> gradient, std::int64_t count) {
  const AttentionArguments<T>& op = gradient.forward;
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32;
  if (index >= count) return;
  float sum = 0.0F;
  for (int c = static_cast<int>(threadIdx.x % 32); c < op.head_size; c += 32) {
    const std::int64_t element = index * op.head_size + c;
    sum = __fmaf_rn(widen(op.out[element]), widen(gradient.d_out[element]), sum);
  }
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xFFFFFFFFU, sum, step);
  if (threadIdx.x % 32 == 0) gradient.delta[index] = sum;
}

/// On tensor cores, heads filled up to D columns and sequences of up to 16 Warps keys: everything in one kernel.
template <typename T, int D, int Warps>
bool launch_heads(cudaStream_t stream, const AttentionGradientArguments<T>& op) {
  using Tiles = HeadTiles<T, D, Warps>;
  const int blocks = op.forward.query_blocks;
  return Tiles::holds(blocks) &&
         launch_on_tensor_cores<&attention_gradient_mma<T, D, Warps, true>, kFirstWithProducts<T>>(
             stream, "attention_gradient_mma", head_grid(op.forward, 1), 32 * Warps,
             Tiles::bytes(blocks, op.d_buckets != nullptr), op);
}

/// Likewise by the number of keys; false where no thread block holds them.
template <typename T, int D>
bool launch_heads(cudaStream_t stream, const AttentionGradientArguments<T>& op) {
  switch (op.forward.key_blocks) {
    case 1: return launch_heads<T, D, 4>(stream, op);
    case 2: return launch_heads<T, D, 8>(stream, op);
    default: return false;
  }
}

/// Likewise for sequences of any length: blocks of keys for d_k and d_v, blocks of queries for d_q and d_bias.
template <typename T, int D>
bool launch_blocks(cudaStream_t stream, const AttentionGradientArguments<T>& op) {
  constexpr int kWarps = 8;
  using Tiles = HeadTiles<T, D, kWarps>;
  const int key_blocks = (op.forward.key_blocks * kTile + Tiles::kKeys - 1) / Tiles::kKeys;
  return launch_on_tensor_cores<&attention_gradient_mma<T, D, kWarps, false>, kFirstWithProducts<T>>(
             stream, "attention_gradient_mma", head_grid(op.forward, key_blocks), 32 * kWarps, Tiles::bytes(0, false),
             op) &&
         launch_on_tensor_cores<&attention_d_q_mma<T, D>, kFirstWithProducts<T>>(
             stream, "attention_d_q_mma", head_grid(op.forward, op.forward.query_blocks), kMmaThreads,
             sizeof(QueryTiles<T, D>), op);
}

/// delta of every query and head.
template <typename T>
void launch_delta(cudaStream_t stream, const AttentionGradientArguments<T>& op, std::int64_t count) {
  constexpr int kWarps = kThreads / 32;
  write_delta<T><<<static_cast<unsigned>((count + kWarps - 1) / kWarps), kThreads, 0, stream>>>(op, count);
  spillway::cuda::check(cudaGetLastError(), "write_delta");
}

/// d_q, d_k, d_v and the parts of d_bias.
/// \param rows  of all sequences: queries times heads
/// \return how many parts of d_bias each sequence has
template <typename T>
int launch(cudaStream_t stream, const AttentionGradientArguments<T>& op, std::int64_t rows) {
  const int head_size = op.forward.head_size;
  if constexpr (sizeof(T) == 2) {
    if (head_size <= 64 && launch_heads<T, 64>(stream, op)) return 1;
    if (head_size > 64 && head_size <= 128 && launch_heads<T, 128>(stream, op)) return 1;
    if (head_size <= 64 && launch_blocks<T, 64>(stream, op)) return op.forward.query_blocks;
    if (head_size > 64 && head_size <= 128 && launch_blocks<T, 128>(stream, op)) return op.forward.query_blocks;
  }
  launch_delta(stream, op, rows);
  const std::int64_t heads = std::int64_t{op.forward.sequences} * op.forward.heads;
  const auto columns = static_cast<unsigned>(attention_tiles(head_size));
  const dim3 key_grid(static_cast<unsigned>(heads * op.forward.key_blocks), columns);
  attention_d_kv_simt<T><<<key_grid, kSimtThreads, 0, stream>>>(op);
  spillway::cuda::check(cudaGetLastError(), "attention_d_kv_simt");
  const dim3 query_grid(static_cast<unsigned>(heads * op.forward.query_blocks), columns);
  attention_d_q_simt<T><<<query_grid, kSimtThreads, 0, stream>>>(op);
  spillway::cuda::check(cudaGetLastError(), "attention_d_q_simt");
  return op.forward.query_blocks;
}

}  // namespace

void attention_gradient(cudaStream_t stream, std::span<std::byte> workspace, const AttentionGradient& op) {
  const Attention& forward = op.forward;
  require_workspace("attention_gradient", AttentionLayout(sizes_of(forward)).bytes, workspace.size());
  write_attention_bias(stream, workspace, forward);
  int parts = 0;
  visit_storage(forward.q.dtype(), [&]<typename T>(std::type_identity<T>) {
    parts = launch(stream, arguments_of<T>(op, workspace), forward.queries.rows * forward.heads);
  });
  add_attention_bias_gradient(stream, workspace, op, parts);
}

}  // namespace spillway::kernels::cuda
