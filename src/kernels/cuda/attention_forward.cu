// SPDX-License-Identifier: Apache-2.0
#include "core/cuda/check.hpp"
#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/attention_bias.cuh"
#include "kernels/cuda/attention_forward_mma.cuh"
#include "kernels/cuda/attention_forward_simt.cuh"
#include "kernels/cuda/attention_launch.cuh"
#include "kernels/cuda/workspace.hpp"

namespace spillway::kernels::cuda {
namespace {

/// On tensor cores, heads filled up to D columns and 16 Warps queries at a time; false where the GPU has none.
template <typename T, int D, int Warps>
bool launch_mma(cudaStream_t stream, const AttentionArguments<T>& op) {
  return launch_on_tensor_cores<&attention_forward_mma<T, D, Warps>, kFirstWithProducts<T>>(
      stream, "attention_forward_mma", head_grid(op, (op.query_blocks * kTile + 16 * Warps - 1) / (16 * Warps)),
      32 * Warps, sizeof(ForwardTiles<T, D, Warps>), op);
}

template <typename T, int D>
bool launch_mma(cudaStream_t stream, const AttentionArguments<T>& op) {
  return op.query_blocks == 1 ? launch_mma<T, D, 4>(stream, op) : launch_mma<T, D, 8>(stream, op);
}

template <typename T>
void launch(cudaStream_t stream, const AttentionArguments<T>& op) {
  if constexpr (sizeof(T) == 2) {
    if (op.head_size <= 64 && launch_mma<T, 64>(stream, op)) return;
    if (op.head_size > 64 && op.head_size <= 128 && launch_mma<T, 128>(stream, op)) return;
  }
  const std::int64_t heads = std::int64_t{op.sequences} * op.heads;
  const dim3 grid(static_cast<unsigned>(heads * op.query_blocks), static_cast<unsigned>(attention_tiles(op.head_size)));
  attention_forward_simt<T><<<grid, kSimtThreads, 0, stream>>>(op);
  spillway::cuda::check(cudaGetLastError(), "attention_forward_simt");
}

}  // namespace

void attention(cudaStream_t stream, std::span<std::byte> workspace, const Attention& op) {
  require_workspace("attention", AttentionLayout(sizes_of(op)).forward_bytes, workspace.size());
  write_attention_bias(stream, workspace, op);
  visit_storage(op.q.dtype(),
                [&]<typename T>(std::type_identity<T>) { launch(stream, arguments_of<T>(op, workspace)); });
}

}  // namespace spillway::kernels::cuda
