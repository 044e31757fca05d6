// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/attention_workspace.hpp"

#include <algorithm>
#include <vector>

#include "kernels/cpu/dropout.hpp"
#include "kernels/cpu/lanes.hpp"

namespace spillway::kernels::cpu {

std::int64_t padded(std::int64_t n) noexcept { return (n + kLanes - 1) / kLanes * kLanes; }

std::int64_t block_rows(std::int64_t longest_queries) noexcept { return std::min(longest_queries, kQueryBlock); }

std::int64_t factor_floats(std::int64_t keys) noexcept {
  return (keys + kDropoutChunk - 1) / kDropoutChunk * kDropoutChunk;
}

std::int64_t forward_scratch_floats(const AttentionExtents& extents) noexcept {
  const std::int64_t rows = block_rows(extents.longest_queries);
  const std::int64_t row = padded(extents.longest_keys);
  // Scores, one row's dropout, bias by distance; then a panel of queries and one of keys that are not fp32 in memory.
  const std::int64_t panels = extents.dtype == DType::f32 ? 0 : (rows + extents.longest_keys) * extents.head_size;
  return rows * row + factor_floats(extents.longest_keys) + (rows + row) + panels;
}

std::int64_t gradient_scratch_floats(const AttentionExtents& extents) noexcept {
  const std::int64_t rows = block_rows(extents.longest_queries);
  const std::int64_t row = padded(extents.longest_keys);
  // Scores and their gradients, one row's dropout, bias and its gradient by distance; then q, d_out, d_q of a block and
  // k, v, d_k, d_v.
  const std::int64_t panels =
      extents.dtype == DType::f32 ? 0 : (3 * rows + 4 * extents.longest_keys) * extents.head_size;
  return 2 * rows * row + factor_floats(extents.longest_keys) + 2 * (extents.longest_queries + row) + panels;
}

std::int64_t cached_scratch_floats(std::int64_t keys) noexcept { return 2 * padded(keys); }

std::size_t attention_workspace_bytes(const AttentionExtents& extents) noexcept {
  const std::int64_t scratch = std::max(
      {forward_scratch_floats(extents), gradient_scratch_floats(extents), cached_scratch_floats(extents.longest_keys)});
  const std::int64_t bucket_of_distance = extents.longest_queries + extents.longest_keys;
  const std::int64_t bias_gradients = extents.sequences * extents.heads * extents.buckets;
  return sizeof(float) * static_cast<std::size_t>(scratch * extents.threads + bucket_of_distance + bias_gradients);
}

std::span<float> attention_scratch(std::int64_t floats) {
  thread_local std::vector<float> memory;
  const auto wanted = static_cast<std::size_t>(floats);
  if (memory.size() < wanted) {
    std::vector<float>().swap(memory);  // first, so that old and new never exist together
    memory.resize(wanted);
  }
  return std::span(memory).first(wanted);
}

}  // namespace spillway::kernels::cpu
