// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstdint>

#include "core/dtype.hpp"

namespace spillway {

/// An IEEE half-precision number in memory.
struct Float16 {
  std::uint16_t bits;
  friend bool operator==(const Float16&, const Float16&) = default;
};

template <>
inline constexpr DType dtype_of<Float16> = DType::f16;

}  // namespace spillway

namespace spillway::kernels {

// float_from_f16 and f16_from_float (core/dtype.hpp) without branches, for loops over many numbers and for the GPU: the same bits on
// both.

/// The number that IEEE half-precision bits mean, exactly.
[[nodiscard, gnu::always_inline]] constexpr float widened_f16(std::uint16_t bits) noexcept {
  constexpr std::uint32_t kInfinite = 0x7c00U << 13;
  constexpr std::uint32_t kSmallest = 113U << 23;  // 2^-14, the smallest normal number
  const std::uint32_t magnitude = (bits & 0x7fffU) << 13;
  const std::uint32_t exponent = magnitude & kInfinite;
  // Both have 127 - 15 more in the exponent; one without an exponent has its digits after 2^-14's leading one, which is taken away.
  const std::uint32_t normal = magnitude + (112U << 23) + (exponent == kInfinite ? 112U << 23 : 0U);
  const float subnormal = std::bit_cast<float>(magnitude + kSmallest) - std::bit_cast<float>(kSmallest);
  const std::uint32_t of_both = exponent == 0U ? std::bit_cast<std::uint32_t>(subnormal) : normal;
  return std::bit_cast<float>(of_both | ((bits & 0x8000U) << 16));
}

/// A number rounded to half precision, to nearest even; from 65520 on infinity; NaN stays NaN.
[[nodiscard, gnu::always_inline]] constexpr std::uint16_t rounded_f16(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t magnitude = bits & 0x7fffffffU;
  const std::uint32_t normal = (magnitude + 0xfffU + ((magnitude >> 13) & 1U) - (112U << 23)) >> 13;
  // Beside 0.5 the last digit of a float is that of f16's subnormal numbers: the addition rounds.
  const std::uint32_t subnormal = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5F) - 0x3f000000U;
  std::uint32_t half = magnitude < (113U << 23) ? subnormal : normal;
  half = magnitude >= 0x477ff000U ? 0x7c00U : half;
  half = magnitude > 0x7f800000U ? 0x7e00U : half;
  return static_cast<std::uint16_t>(half | ((bits >> 16) & 0x8000U));
}

}  // namespace spillway::kernels
