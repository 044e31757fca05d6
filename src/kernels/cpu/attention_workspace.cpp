// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/attention_workspace.hpp"

#include <algorithm>
#include <vector>

#include "kernels/cpu/lanes.hpp"

namespace spillway::kernels::cpu {

std::int64_t padded(std::int64_t n) noexcept { return (n + kLanes - 1) / kLanes * kLanes; }

std::int64_t block_rows(std::int64_t longest_queries) noexcept { return std::min(longest_queries, kQueryBlock); }

std::int64_t forward_scratch_floats(std::int64_t longest_queries, std::int64_t longest_keys) noexcept {
  const std::int64_t rows = block_rows(longest_queries);
  const std::int64_t row = padded(longest_keys);
  return rows * row + (rows + row) + row;  // scores, bias by distance, one row's dropout
}

std::int64_t gradient_scratch_floats(std::int64_t longest_queries, std::int64_t longest_keys) noexcept {
  const std::int64_t row = padded(longest_keys);
  // Scores and their gradients, bias and its gradient by distance, one row's dropout.
  return 2 * block_rows(longest_queries) * row + 2 * (longest_queries + row) + row;
}

std::int64_t cached_scratch_floats(std::int64_t keys) noexcept { return 2 * padded(keys); }

std::size_t attention_workspace_bytes(const AttentionExtents& extents) noexcept {
  const std::int64_t scratch = std::max({forward_scratch_floats(extents.longest_queries, extents.longest_keys),
                                         gradient_scratch_floats(extents.longest_queries, extents.longest_keys),
                                         cached_scratch_floats(extents.longest_keys)});
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
