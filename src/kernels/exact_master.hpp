// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstdint>

namespace spillway::kernels {

/// An fp32 number as a bf16 weight and what is missing to it: bits = (weight << 16) + master. The weight is the number rounded to
/// nearest, halves away from zero; one whose magnitude is above bf16's largest has the weight infinity, and still comes back exactly.
struct SplitFloat {
  std::uint16_t weight;  // bf16
  std::int16_t master;
};

/// \param value  finite
[[nodiscard, gnu::always_inline]] constexpr SplitFloat split(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return {static_cast<std::uint16_t>((bits + 0x8000U) >> 16), static_cast<std::int16_t>(bits & 0xFFFFU)};
}

[[nodiscard, gnu::always_inline]] constexpr float join(const SplitFloat& parts) noexcept {
  return std::bit_cast<float>((static_cast<std::uint32_t>(parts.weight) << 16) +
                              static_cast<std::uint32_t>(static_cast<std::int32_t>(parts.master)));
}

}  // namespace spillway::kernels
