// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace spillway {

/// Element types of tensors. All are stored little-endian.
enum class DType : std::uint8_t { f32, f64, f16, bf16, i16, i32, i64, i8, u8 };

/// A bf16 number in memory: the upper half of a float's bits.
struct BFloat16 {
  std::uint16_t bits;
  friend bool operator==(const BFloat16&, const BFloat16&) = default;
};

/// Bytes of one element.
[[nodiscard]] std::size_t size_of(DType dtype) noexcept;

/// The short lower-case name: "f32", "bf16".
[[nodiscard]] std::string_view name_of(DType dtype) noexcept;

/// The DType of a C++ element type: `dtype_of<float>`.
template <typename T>
inline constexpr DType dtype_of = [] {
  static_assert(sizeof(T) == 0, "no DType for this type");
  return DType::u8;
}();
template <>
inline constexpr DType dtype_of<float> = DType::f32;
template <>
inline constexpr DType dtype_of<double> = DType::f64;
template <>
inline constexpr DType dtype_of<BFloat16> = DType::bf16;
template <>
inline constexpr DType dtype_of<std::int16_t> = DType::i16;
template <>
inline constexpr DType dtype_of<std::int32_t> = DType::i32;
template <>
inline constexpr DType dtype_of<std::int64_t> = DType::i64;
template <>
inline constexpr DType dtype_of<std::int8_t> = DType::i8;
template <>
inline constexpr DType dtype_of<std::uint8_t> = DType::u8;

/// Rounding of one value to and from 16 bits, to nearest even; NaN stays NaN.
[[nodiscard]] constexpr float float_from_bf16(std::uint16_t bits) noexcept {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}
[[nodiscard]] constexpr std::uint16_t bf16_from_float(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const bool is_nan = (bits & 0x7fffffffU) > 0x7f800000U;
  return static_cast<std::uint16_t>((is_nan ? bits | 0x400000U : bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}
[[nodiscard]] float float_from_f16(std::uint16_t bits) noexcept;
[[nodiscard]] std::uint16_t f16_from_float(float value) noexcept;

}  // namespace spillway
