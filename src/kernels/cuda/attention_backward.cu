// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/cuda/check.hpp"
#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/attention_backward_mma.cuh"
#include "kernels/cuda/attention_backward_simt.cuh"
#include "kernels/cuda/attention_bias.cuh"
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

/// Launches a kernel whose shared memory is more than a launch gets unasked.
template <typename T>
void launch_wide(cudaStream_t stream, void (*kernel)(AttentionGradientArguments<T>), const char* name,
                 std::int64_t blocks, std::size_t shared_bytes, const AttentionGradientArguments<T>& op) {
  spillway::cuda::check(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)),
      "cudaFuncSetAttribute");
  kernel<<<static_cast<unsigned>(blocks), kMmaThreads, shared_bytes, stream>>>(op);
  spillway::cuda::check(cudaGetLastError(), name);
}

/// On tensor cores, heads filled up to D columns; false where the GPU's code has none.
template <typename T, int D>
bool launch_mma(cudaStream_t stream, const AttentionGradientArguments<T>& op, std::int64_t heads) {
  const std::size_t key_bytes = sizeof(KeyGradientTiles<T, D>);
  const std::size_t query_bytes = query_tiles_bytes<T, D>(op.d_buckets != nullptr);
  if (!has_tensor_cores<T>(reinterpret_cast<const void*>(&attention_d_kv_mma<T, D>), std::max(key_bytes, query_bytes)))
    return false;
  launch_wide(stream, &attention_d_kv_mma<T, D>, "attention_d_kv_mma", heads * op.forward.key_blocks, key_bytes, op);
  launch_wide(stream, &attention_d_q_mma<T, D>, "attention_d_q_mma", heads * op.forward.query_blocks, query_bytes, op);
  return true;
}

/// d_q, d_k, d_v and the blocks' d_bias. `heads`: of all sequences.
template <typename T>
void launch(cudaStream_t stream, const AttentionGradientArguments<T>& op, std::int64_t heads) {
  const int head_size = op.forward.head_size;
  if constexpr (sizeof(T) == 2) {
    if (head_size <= 64 && launch_mma<T, 64>(stream, op, heads)) return;
    if (head_size > 64 && head_size <= 128 && launch_mma<T, 128>(stream, op, heads)) return;
  }
  const auto columns = static_cast<unsigned>(attention_tiles(head_size));
  const dim3 key_grid(static_cast<unsigned>(heads * op.forward.key_blocks), columns);
  attention_d_kv_simt<T><<<key_grid, kSimtThreads, 0, stream>>>(op);
  spillway::cuda::check(cudaGetLastError(), "attention_d_kv_simt");
  const dim3 query_grid(static_cast<unsigned>(heads * op.forward.query_blocks), columns);
  attention_d_q_simt<T><<<query_grid, kSimtThreads, 0, stream>>>(op);
  spillway::cuda::check(cudaGetLastError(), "attention_d_q_simt");
}

}  // namespace

void attention_gradient(cudaStream_t stream, std::span<std::byte> workspace, const AttentionGradient& op) {
  const Attention& forward = op.forward;
  require_workspace("attention_gradient", AttentionLayout(sizes_of(forward)).bytes, workspace.size());
  write_attention_bias(stream, workspace, forward);
  visit_storage(forward.q.dtype(), [&]<typename T>(std::type_identity<T>) {
    const AttentionGradientArguments<T> arguments = arguments_of<T>(op, workspace);
    const std::int64_t rows = forward.queries.rows * forward.heads;
    constexpr int kWarps = kThreads / 32;
    write_delta<T><<<static_cast<unsigned>((rows + kWarps - 1) / kWarps), kThreads, 0, stream>>>(arguments, rows);
    spillway::cuda::check(cudaGetLastError(), "write_delta");
    launch(stream, arguments, forward.queries.count * forward.heads);
  });
  add_attention_bias_gradient(stream, workspace, op);
}

}  // namespace spillway::kernels::cuda
