// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/tensor_view.hpp"

namespace spillway::kernels {

/// A batch without padding: the sequences' rows lie end to end. All tensors are where the ops run.
struct PackedSequences {
  ConstTensorView offsets;       // i32 (count + 1): sequence s has rows offsets[s] to offsets[s + 1]; none is empty
  ConstTensorView row_sample;    // i32 (rows): the sample's number in its global batch, the dropout stream of the row
  ConstTensorView row_position;  // i32 (rows): the row's place in its sequence
  std::int64_t count = 0;        // sequences
  std::int64_t rows = 0;         // tokens
  std::int64_t longest = 0;      // rows of the longest sequence
};

/// Dropout as a pure function of where an element is. Element (sample, position, column) of a row-wise site uses the
/// 16-bit lane column % 8 (lane j is bits 16 (j % 2) to 16 (j % 2) + 15 of draw j / 2) of
/// Philox(key, {position * ceil(width / 8) + column / 8, sample, site, 0}); element (sample, head, query, key) of an
/// attention site of Philox(key, {query * ceil(keys / 8) + key / 8, sample, site, head}). Kept if the lane is at least
/// threshold(), and then scaled by scale().
struct Dropout {
  float probability = 0.0F;  // 0: off
  std::uint64_t key = 0;     // mix_key(seed, step)
  std::uint32_t site = 0;    // which dropout of the model

  [[nodiscard]] bool active() const noexcept { return threshold() > 0; }
  [[nodiscard]] std::uint32_t threshold() const noexcept {
    return static_cast<std::uint32_t>(probability * 65536.0F + 0.5F);
  }
  [[nodiscard]] float scale() const noexcept { return 65536.0F / static_cast<float>(65536U - threshold()); }
};

}  // namespace spillway::kernels
