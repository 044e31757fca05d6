// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "core/dtype.hpp"
#include "core/philox.hpp"
#include "core/tensor_view.hpp"

namespace spillway::test {

/// Number `i` of rank `rank`: exponents from -8 to 7, so that sums depend on their order.
inline float value_of(int rank, std::int64_t i) {
  const auto draw = Philox::draw(7, {static_cast<std::uint32_t>(rank), static_cast<std::uint32_t>(i), 0, 0});
  return std::ldexp(static_cast<float>(static_cast<std::int32_t>(draw[0])) * 0x1p-31F,
                    static_cast<int>(draw[1] % 16) - 8);
}

inline std::uint16_t narrow(float value, DType dtype) {
  return dtype == DType::bf16 ? bf16_from_float(value) : f16_from_float(value);
}
inline float widen(std::uint16_t bits, DType dtype) {
  return dtype == DType::bf16 ? float_from_bf16(bits) : float_from_f16(bits);
}

/// Elements of a tensor of f32, bf16 or f16 that owns its bytes.
class Numbers {
 public:
  Numbers(DType dtype, std::int64_t elements)
      : dtype_(dtype), bytes_(static_cast<std::size_t>(elements) * size_of(dtype)) {}
  static Numbers of_rank(int rank, DType dtype, std::int64_t elements) {
    Numbers numbers(dtype, elements);
    for (std::int64_t i = 0; i < elements; ++i) numbers.set(i, value_of(rank, i));
    return numbers;
  }
  [[nodiscard]] float at(std::int64_t i) const {
    if (dtype_ == DType::f32) return load<float>(i);
    return widen(load<std::uint16_t>(i), dtype_);
  }
  void set(std::int64_t i, float value) {
    if (dtype_ == DType::f32) store(i, value);
    else store(i, narrow(value, dtype_));
  }
  [[nodiscard]] TensorView view() {
    return {bytes_.data(), dtype_, Shape{static_cast<std::int64_t>(bytes_.size() / size_of(dtype_))}};
  }
  [[nodiscard]] const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  template <typename T>
  T load(std::int64_t i) const {
    T value;
    std::memcpy(&value, bytes_.data() + static_cast<std::size_t>(i) * sizeof(T), sizeof(T));
    return value;
  }
  template <typename T>
  void store(std::int64_t i, T value) {
    std::memcpy(bytes_.data() + static_cast<std::size_t>(i) * sizeof(T), &value, sizeof(T));
  }
  DType dtype_;
  std::vector<std::byte> bytes_;
};

}  // namespace spillway::test
