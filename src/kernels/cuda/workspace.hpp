// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace spillway::kernels::cuda {

// What the ops need beside their tensors, computed without a GPU: for the ledger. The ops of one queue share one workspace, so it is
// the largest that counts.

/// Blocks of rows, at most, whose parts of d_weight a norm's gradient sums by themselves.
inline constexpr std::int64_t kNormBlocks = 256;

/// What cuBLASLt may use: what NVIDIA's guide asks for on its largest GPUs.
inline constexpr std::size_t kProductBytes = std::size_t{32} << 20;

/// For the pieces of an f32 gradient that meets bf16 weights or activations (mixed_products.hpp), some rows of it at a time.
inline constexpr std::size_t kPieceBytes = std::size_t{32} << 20;

[[nodiscard]] std::size_t residual_norm_workspace_bytes(std::int64_t width) noexcept;
[[nodiscard]] std::size_t embedding_workspace_bytes(std::int64_t rows) noexcept;
/// Of each of the sort's arrays: ids and row numbers, from and to.
[[nodiscard]] std::size_t sort_part_bytes(std::int64_t rows) noexcept;

}  // namespace spillway::kernels::cuda
