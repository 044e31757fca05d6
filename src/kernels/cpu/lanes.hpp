// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "core/dtype.hpp"

namespace spillway::kernels::cpu {

/// Eight numbers in one of the compiler's vector types. Their calling convention depends on the instruction set:
/// functions take them by reference, return them inside a struct only, and are always inlined.
using Octet [[gnu::vector_size(32)]] = float;
using IntOctet [[gnu::vector_size(32)]] = std::int32_t;
using BitsOctet [[gnu::vector_size(32)]] = std::uint32_t;
using ShortOctet [[gnu::vector_size(16)]] = std::uint16_t;

/// Sixteen numbers that are worked on at once. How many is part of the result of a sum and so the same on every
/// processor. Two halves, because g++ 12 splits vectors that are wider than the machine's badly; AVX-512 loses little
/// by it.
struct Lanes {
  Octet low, high;

  [[gnu::always_inline]] float operator[](std::int64_t lane) const { return lane < 8 ? low[lane] : high[lane - 8]; }
};
inline constexpr std::int64_t kLanes = 16;

[[gnu::always_inline]] inline Lanes all_lanes(float value) { return {Octet{} + value, Octet{} + value}; }

[[gnu::always_inline]] inline Lanes operator+(const Lanes& a, const Lanes& b) {
  return {a.low + b.low, a.high + b.high};
}
[[gnu::always_inline]] inline Lanes operator-(const Lanes& a, const Lanes& b) {
  return {a.low - b.low, a.high - b.high};
}
[[gnu::always_inline]] inline Lanes operator*(const Lanes& a, const Lanes& b) {
  return {a.low * b.low, a.high * b.high};
}
[[gnu::always_inline]] inline Lanes operator-(const Lanes& a, float b) { return {a.low - b, a.high - b}; }
[[gnu::always_inline]] inline Lanes operator*(const Lanes& a, float b) { return {a.low * b, a.high * b}; }

[[gnu::always_inline]] inline Lanes operator+(float a, const Lanes& b) { return {a + b.low, a + b.high}; }
[[gnu::always_inline]] inline Lanes& operator+=(Lanes& a, const Lanes& b) { return a = a + b; }
[[gnu::always_inline]] inline Lanes& operator*=(Lanes& a, const Lanes& b) { return a = a * b; }

/// x < y ? a : b in each lane.
[[gnu::always_inline]] inline Lanes where_less(const Lanes& x, const Lanes& y, const Lanes& a, const Lanes& b) {
  return {x.low < y.low ? a.low : b.low, x.high < y.high ? a.high : b.high};
}

/// Sixteen floats from any address.
[[gnu::always_inline]] inline Lanes load(const float* from) {
  Lanes lanes;
  __builtin_memcpy(&lanes.low, from, sizeof lanes.low);
  __builtin_memcpy(&lanes.high, from + 8, sizeof lanes.high);
  return lanes;
}

/// The first min(count, 16) floats, zeros in the lanes after them.
[[gnu::always_inline]] inline Lanes load(const float* from, std::int64_t count) {
  if (count >= kLanes) return load(from);
  float padded[kLanes] = {};
  for (std::int64_t i = 0; i < count; ++i) padded[i] = from[i];
  return load(padded);
}

[[gnu::always_inline]] inline void store(float* to, const Lanes& lanes) {
  __builtin_memcpy(to, &lanes.low, sizeof lanes.low);
  __builtin_memcpy(to + 8, &lanes.high, sizeof lanes.high);
}

/// Writes the first min(count, 16) lanes.
[[gnu::always_inline]] inline void store(float* to, const Lanes& lanes, std::int64_t count) {
  if (count >= kLanes) return store(to, lanes);
  for (std::int64_t i = 0; i < count; ++i) to[i] = lanes[i];
}

namespace detail {

[[gnu::always_inline]] inline void widen(const BFloat16* from, Octet& to) {
  ShortOctet halves;
  __builtin_memcpy(&halves, from, sizeof halves);
  to = reinterpret_cast<Octet>(__builtin_convertvector(halves, BitsOctet) << 16);
}

/// bf16_from_float in each lane.
[[gnu::always_inline]] inline void round(const Octet& from, BFloat16* to) {
  const auto bits = reinterpret_cast<BitsOctet>(from);
  const BitsOctet rounded = bits + 0x7fffU + ((bits >> 16) & 1U);
  const BitsOctet quiet = bits | 0x400000U;
  const ShortOctet halves = __builtin_convertvector((from != from ? quiet : rounded) >> 16, ShortOctet);
  __builtin_memcpy(to, &halves, sizeof halves);
}

}  // namespace detail

/// The same from and to bf16 memory: widened exactly, rounded to nearest even.
[[gnu::always_inline]] inline Lanes load(const BFloat16* from) {
  Lanes lanes;
  detail::widen(from, lanes.low);
  detail::widen(from + 8, lanes.high);
  return lanes;
}
[[gnu::always_inline]] inline Lanes load(const BFloat16* from, std::int64_t count) {
  if (count >= kLanes) return load(from);
  BFloat16 padded[kLanes] = {};
  for (std::int64_t i = 0; i < count; ++i) padded[i] = from[i];
  return load(padded);
}
[[gnu::always_inline]] inline void store(BFloat16* to, const Lanes& lanes) {
  detail::round(lanes.low, to);
  detail::round(lanes.high, to + 8);
}
[[gnu::always_inline]] inline void store(BFloat16* to, const Lanes& lanes, std::int64_t count) {
  if (count >= kLanes) return store(to, lanes);
  BFloat16 rounded[kLanes];
  store(rounded, lanes);
  for (std::int64_t i = 0; i < count; ++i) to[i] = rounded[i];
}

/// What an element becomes when it is stored as T and read again.
template <typename T>
[[gnu::always_inline]] inline Lanes as_stored(const Lanes& lanes) {
  if constexpr (std::is_same_v<T, float>) {
    return lanes;
  } else {
    T stored[kLanes];
    store(stored, lanes);
    return load(stored);
  }
}

/// The sum of all lanes, halves first: lane i + lane i + 8, and so on.
[[gnu::always_inline]] inline float sum(const Lanes& lanes) {
  Octet sums = lanes.low + lanes.high;
  for (int half = 4; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) sums[i] += sums[i + half];
  return sums[0];
}

[[gnu::always_inline]] inline float largest(const Lanes& lanes) {
  float result = lanes[0];
  for (std::int64_t i = 1; i < kLanes; ++i) result = std::max(result, lanes[i]);
  return result;
}

/// `lanes` where the lane's number is below `count`, `fill` elsewhere.
[[gnu::always_inline]] inline Lanes keep_first(const Lanes& lanes, std::int64_t count, float fill) {
  constexpr IntOctet kNumbers{0, 1, 2, 3, 4, 5, 6, 7};
  const auto limit = static_cast<std::int32_t>(std::min(count, kLanes));
  return {kNumbers < limit ? lanes.low : Octet{} + fill, kNumbers < limit - 8 ? lanes.high : Octet{} + fill};
}

[[gnu::always_inline]] inline Lanes larger(const Lanes& a, const Lanes& b) { return where_less(b, a, a, b); }

/// The first min(count, 16) floats, then `fill`.
[[gnu::always_inline]] inline Lanes load_part(const float* from, std::int64_t count, float fill) {
  return keep_first(load(from, count), count, fill);
}

/// Σ a[i] b[i].
template <typename T, typename U>
[[gnu::always_inline]] inline float dot(const T* a, const U* b, std::int64_t count) {
  Lanes sums{};
  for (std::int64_t i = 0; i < count; i += kLanes) sums += load(a + i, count - i) * load(b + i, count - i);
  return sum(sums);
}

}  // namespace spillway::kernels::cpu
