// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/dtype.hpp"

namespace spillway::kernels::cpu {

/// Queries of one head whose scores are in memory at a time.
inline constexpr std::int64_t kQueryBlock = 64;

/// Upper limits of the attention ops of a job.
struct AttentionExtents {
  std::int64_t longest_queries = 0;  // tokens of a sequence; in generation 1
  std::int64_t longest_keys = 0;     // likewise; in generation the capacity of the caches too
  std::int64_t sequences = 0;        // of one micro-batch
  std::int64_t heads = 0;
  std::int64_t head_size = 0;
  std::int64_t buckets = 0;  // of the bias table
  DType dtype = DType::f32;  // of the activations
  int threads = 1;           // of the pool
};

/// The most memory that attention, attention_gradient and the cached forms take besides their tensors: for the ledger.
/// It grows to this at first use; the threads keep theirs. What OpenBLAS allocates itself (a fixed buffer per thread)
/// is not in it.
[[nodiscard]] std::size_t attention_workspace_bytes(const AttentionExtents& extents) noexcept;

/// `n` rounded up to whole lanes: the length of a row of scores.
[[nodiscard]] std::int64_t padded(std::int64_t n) noexcept;

/// Rows of a tile of scores.
[[nodiscard]] std::int64_t block_rows(std::int64_t longest_queries) noexcept;

/// Floats that the dropout factors of a row of `keys` probabilities take.
[[nodiscard]] std::int64_t factor_floats(std::int64_t keys) noexcept;

/// Floats of scratch that a thread needs in the forward pass, the backward pass, and for one cached query.
[[nodiscard]] std::int64_t forward_scratch_floats(const AttentionExtents& extents) noexcept;
[[nodiscard]] std::int64_t gradient_scratch_floats(const AttentionExtents& extents) noexcept;
[[nodiscard]] std::int64_t cached_scratch_floats(std::int64_t keys) noexcept;

/// Scratch memory of the calling thread, the same at every call; its contents are anything.
[[nodiscard]] std::span<float> attention_scratch(std::int64_t floats);

}  // namespace spillway::kernels::cpu
