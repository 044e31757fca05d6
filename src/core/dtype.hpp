// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace spillway {

/// Element types of tensors. All are stored little-endian.
enum class DType : std::uint8_t { f32, f64, f16, bf16, i32, i64, i16, i8, u8 };

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
inline constexpr DType dtype_of<std::int32_t> = DType::i32;
template <>
inline constexpr DType dtype_of<std::int64_t> = DType::i64;
template <>
inline constexpr DType dtype_of<std::int16_t> = DType::i16;
template <>
inline constexpr DType dtype_of<std::int8_t> = DType::i8;
template <>
inline constexpr DType dtype_of<std::uint8_t> = DType::u8;

/// Rounding of one value to and from 16 bits, to nearest even; NaN stays NaN.
[[nodiscard]] float float_from_bf16(std::uint16_t bits) noexcept;
[[nodiscard]] float float_from_f16(std::uint16_t bits) noexcept;
[[nodiscard]] std::uint16_t bf16_from_float(float value) noexcept;
[[nodiscard]] std::uint16_t f16_from_float(float value) noexcept;

}  // namespace spillway
