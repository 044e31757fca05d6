// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/philox.hpp"
#include "kernels/common.hpp"

namespace spillway::kernels::cpu {

/// Which row of which head's probabilities.
struct ProbabilityRow {
  std::uint32_t sample = 0;
  std::uint32_t head = 0;
  std::uint32_t query = 0;  // position in its sequence
  std::int64_t keys = 0;    // of the whole key sequence, masked ones too
};

/// What dropout multiplies the probabilities of the first `count` keys with: 0 or scale(), as `Dropout` says. Writes up
/// to 7 further elements.
inline void dropout_multipliers(const Dropout& dropout, const ProbabilityRow& row, std::int64_t count,
                                float* multipliers) {
  const std::uint32_t threshold = dropout.threshold();
  const float scale = dropout.scale();
  const auto first = static_cast<std::uint32_t>(row.query * ((row.keys + 7) / 8));
  for (std::int64_t key = 0; key < count; key += 8) {
    const auto draws =
        Philox::draw(dropout.key, {first + static_cast<std::uint32_t>(key / 8), row.sample, dropout.site, row.head});
    for (const std::uint32_t draw : draws) {
      *multipliers++ = (draw & 0xFFFFU) >= threshold ? scale : 0.0F;
      *multipliers++ = (draw >> 16U) >= threshold ? scale : 0.0F;
    }
  }
}

}  // namespace spillway::kernels::cpu
