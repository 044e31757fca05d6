// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/float16.hpp"

namespace spillway::kernels::cpu {

/// Eight fp64 numbers in one of the compiler's vector types (see lanes.hpp).
using Doubles [[gnu::vector_size(64)]] = double;

/// Eight floats, bf16 or f16, from any address, in fp64.
[[gnu::always_inline]] inline void load_wide(const float* from, Doubles& to) {
  using Floats [[gnu::vector_size(32)]] = float;
  Floats part;
  __builtin_memcpy(&part, from, sizeof part);
  to = __builtin_convertvector(part, Doubles);
}
[[gnu::always_inline]] inline void load_wide(const std::uint16_t* bf16, Doubles& to) {
  using Floats [[gnu::vector_size(32)]] = float;
  using Halves [[gnu::vector_size(16)]] = std::uint16_t;
  using Words [[gnu::vector_size(32)]] = std::uint32_t;
  Halves part;
  __builtin_memcpy(&part, bf16, sizeof part);
  to = __builtin_convertvector(reinterpret_cast<Floats>(__builtin_convertvector(part, Words) << 16), Doubles);
}

[[gnu::always_inline]] inline void load_wide(const Float16* f16, Doubles& to) {
  float part[8];
  for (int i = 0; i < 8; ++i) part[i] = widened_f16(f16[i].bits);
  load_wide(part, to);
}

/// A sum in fp64 whose order is fixed: number i goes to sum i % 8, then the eight are added, halves first.
class WideSum {
 public:
  /// Adds the eight numbers from one whose index is a multiple of eight.
  [[gnu::always_inline]] void add(const Doubles& numbers) { sums_ += numbers; }
  [[gnu::always_inline]] void add(std::int64_t index, double number) { sums_[index % 8] += number; }
  [[nodiscard, gnu::always_inline]] double total() const {
    Doubles sums = sums_;
    for (int half = 4; half > 0; half /= 2)
      for (int lane = 0; lane < half; ++lane) sums[lane] += sums[lane + half];
    return sums[0];
  }

 private:
  Doubles sums_{};
};

/// Σ (x² + each).
/// \tparam T  float, std::uint16_t for bf16, or Float16
template <typename T>
[[gnu::always_inline]] inline double sum_of_squares_of(const T* x, std::int64_t count, double each = 0.0) {
  WideSum sum;
  std::int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    Doubles wide;
    load_wide(x + i, wide);
    sum.add(wide * wide + each);
  }
  if (i < count) {
    T rest[8] = {};
    for (std::int64_t j = i; j < count; ++j) rest[j - i] = x[j];
    Doubles wide;
    load_wide(rest, wide);
    for (; i < count; ++i) sum.add(i, wide[i % 8] * wide[i % 8] + each);
  }
  return sum.total();
}

}  // namespace spillway::kernels::cpu
