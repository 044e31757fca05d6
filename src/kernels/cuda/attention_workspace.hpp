// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/model_ops.hpp"

namespace spillway::kernels::cuda {

/// Upper limits of the attention ops that share a workspace.
struct AttentionSizes {
  std::int64_t longest_queries = 0;  // tokens of a sequence
  std::int64_t longest_keys = 0;     // likewise
  std::int64_t query_rows = 0;       // tokens of a micro-batch's queries
  std::int64_t sequences = 0;        // of a micro-batch
  std::int64_t heads = 0;
  std::int64_t buckets = 0;  // of the bias table; 0: none
};

/// Device memory that attention and attention_gradient take besides their tensors, in bytes: the bias by distance where there are many
/// buckets, out · d_out of every row for fp32 arithmetic, and d_bias of every block of queries. It grows with each size. No score is in
/// it.
[[nodiscard]] std::size_t attention_workspace_bytes(const AttentionSizes& sizes) noexcept;

/// Where the parts of a workspace begin, in bytes, each on a multiple of 256.
struct AttentionLayout {
  explicit AttentionLayout(const AttentionSizes& sizes) noexcept;

  std::size_t bias = 0;           // f32 (heads, distances)
  std::size_t bucket = 0;         // i32 (distances)
  std::size_t forward_bytes = 0;  // the forward pass needs no more than that
  std::size_t delta = 0;          // f32 (query_rows, heads)
  std::size_t d_buckets = 0;      // f32 (sequences, heads, blocks of queries, buckets)
  std::size_t bytes = 0;
};

/// The sizes of one op.
[[nodiscard]] AttentionSizes sizes_of(const Attention& op);

/// Queries, and keys, of a tile of scores.
inline constexpr int kAttentionTile = 64;

/// Tiles that `rows` rows take.
[[nodiscard]] constexpr std::int64_t attention_tiles(std::int64_t rows) noexcept {
  return (rows + kAttentionTile - 1) / kAttentionTile;
}

}  // namespace spillway::kernels::cuda
