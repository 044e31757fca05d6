// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/dynamic_map.hpp"

namespace spillway::kernels::cuda {

// What the ops need beside their tensors, computed without a GPU: for the ledger. The ops of one queue share one workspace, so it is
// the largest that counts.

/// Blocks, at most, whose rows' parts of d_weight a norm's gradient sums by themselves: all that an H200 runs at a time.
inline constexpr std::int64_t kNormBlocks = 264;

/// What cuBLASLt may use: what NVIDIA's guide asks for on its largest GPUs.
inline constexpr std::size_t kProductBytes = std::size_t{32} << 20;

/// For the pieces of an f32 gradient that meets bf16 weights or activations (mixed_products.hpp), some rows of it at a time.
inline constexpr std::size_t kPieceBytes = std::size_t{32} << 20;

/// Sums of spans (adafactor_ops.hpp) that Adafactor adds at a time: those of the columns of 16384 rows of 1024.
inline constexpr std::size_t kAdafactorPartialSums = 262144;

/// DynamicCodes as the GPU reads it: small enough to stay in the first-level cache.
struct StateCodes {
  std::array<float, 256> map, above;
  std::int32_t zero, largest_negative;
  std::array<std::uint8_t, DynamicCodes::kCells> first;
};

/// The codes of both signs.
struct StateCodeTables {
  StateCodes either, nonnegative;
};

/// The tables, and on to where the partial sums of Adafactor begin.
inline constexpr std::size_t kTableBytes = (sizeof(StateCodeTables) + 15) / 16 * 16;

/// One of the best continuations of a row.
struct Candidate {
  float score;
  std::int32_t token;
};

/// Thread blocks that share a row of logits.
inline constexpr int kRowParts = 8;

/// Of a part of a row of logits: its largest, and the sum of exp(logit - largest).
struct PartSum {
  double total;
  float peak;
};

/// What the GPU has to say of a row that has no distribution, in host memory that the GPU writes to.
struct NoDistribution {
  std::int32_t row;  // a row whose logits hold NaN or infinity; -1: none
  float largest;
  double sum;
};

/// \throws Error if `found` bytes are less than `op` needs
void require_workspace(const char* op, std::size_t needed, std::size_t found);

[[nodiscard]] std::size_t residual_norm_workspace_bytes(std::int64_t width) noexcept;
[[nodiscard]] std::size_t embedding_workspace_bytes(std::int64_t rows) noexcept;
/// Of each part of each row of `items` times `beams` its sum and its `count` best.
[[nodiscard]] std::size_t top_continuations_workspace_bytes(std::int64_t items, std::int64_t beams,
                                                            std::int64_t count) noexcept;
/// Of each of the sort's arrays: ids and row numbers, from and to.
[[nodiscard]] std::size_t sort_part_bytes(std::int64_t rows) noexcept;

}  // namespace spillway::kernels::cuda
