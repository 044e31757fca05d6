// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/attention_workspace.hpp"

namespace spillway::kernels::cuda {
namespace {

/// Bytes of `elements` 4-byte numbers, and on to where the next part may begin.
std::size_t part(std::int64_t elements) noexcept { return (static_cast<std::size_t>(elements) * 4 + 255) / 256 * 256; }

}  // namespace

AttentionLayout::AttentionLayout(const AttentionSizes& sizes) noexcept {
  const std::int64_t distances = sizes.buckets > 0 ? sizes.longest_queries + sizes.longest_keys - 1 : 0;
  bucket = bias + part(sizes.heads * distances);
  forward_bytes = bucket + part(distances);
  delta = forward_bytes;
  d_buckets = delta + part(sizes.query_rows * sizes.heads);
  bytes = d_buckets + part(sizes.sequences * sizes.heads * attention_tiles(sizes.longest_queries) * sizes.buckets);
}

std::size_t attention_workspace_bytes(const AttentionSizes& sizes) noexcept { return AttentionLayout(sizes).bytes; }

AttentionSizes sizes_of(const Attention& op) {
  return {.longest_queries = op.queries.longest,
          .longest_keys = op.keys.longest,
          .query_rows = op.queries.rows,
          .sequences = op.queries.count,
          .heads = op.heads,
          .buckets = op.bias.table ? op.bias.table.extent(0) : 0};
}

}  // namespace spillway::kernels::cuda
