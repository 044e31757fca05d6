// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

namespace spillway::kernels::cpu {

/// Sixteen numbers that are worked on at once: one AVX-512 register, two of AVX2, four of SSE. The number of lanes is part of the
/// result of a sum and so the same on every processor. These are the compiler's vector types; functions that take or return them
/// are always inlined, since their calling convention depends on the instruction set.
inline constexpr std::int64_t kLanes = 16;
using Lanes [[gnu::vector_size(64)]] = float;
using IntLanes [[gnu::vector_size(64)]] = std::int32_t;
using UnsignedLanes [[gnu::vector_size(64)]] = std::uint32_t;

[[gnu::always_inline]] inline Lanes all_lanes(float value) { return Lanes{} + value; }

/// Sixteen floats from any address.
[[gnu::always_inline]] inline Lanes load(const float* from) {
  Lanes lanes;
  __builtin_memcpy(&lanes, from, sizeof lanes);
  return lanes;
}

/// The first min(count, 16) floats, zeros in the lanes after them.
[[gnu::always_inline]] inline Lanes load(const float* from, std::int64_t count) {
  if (count >= kLanes) return load(from);
  float padded[kLanes] = {};
  for (std::int64_t i = 0; i < count; ++i) padded[i] = from[i];
  return load(padded);
}

[[gnu::always_inline]] inline void store(float* to, const Lanes& lanes) { __builtin_memcpy(to, &lanes, sizeof lanes); }

/// Writes the first min(count, 16) lanes.
[[gnu::always_inline]] inline void store(float* to, const Lanes& lanes, std::int64_t count) {
  if (count >= kLanes) {
    __builtin_memcpy(to, &lanes, sizeof lanes);
  } else {
    for (std::int64_t i = 0; i < count; ++i) to[i] = lanes[i];
  }
}

/// The sum of all lanes, halves first: lane i + lane i + 8, and so on.
[[gnu::always_inline]] inline float sum(Lanes lanes) {
  for (std::int64_t half = kLanes / 2; half > 0; half /= 2)
    for (std::int64_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  return lanes[0];
}

[[gnu::always_inline]] inline float largest(const Lanes& lanes) {
  float result = lanes[0];
  for (std::int64_t i = 1; i < kLanes; ++i) result = std::max(result, lanes[i]);
  return result;
}

/// The first `count` (1 to 15) floats, then `fill`.
[[gnu::always_inline]] inline Lanes load_part(const float* from, std::int64_t count, float fill) {
  std::array<float, kLanes> part;
  part.fill(fill);
  std::memcpy(part.data(), from, static_cast<std::size_t>(count) * sizeof(float));
  return load(part.data());
}

/// `lanes` where the lane's number is below `count`, `fill` elsewhere.
[[gnu::always_inline]] inline Lanes keep_first(const Lanes& lanes, std::int64_t count, float fill) {
  constexpr UnsignedLanes kNumbers{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return kNumbers < static_cast<std::uint32_t>(count) ? lanes : all_lanes(fill);
}

[[gnu::always_inline]] inline Lanes larger(const Lanes& a, const Lanes& b) { return a > b ? a : b; }

/// Σ a[i] b[i].
[[gnu::always_inline]] inline float dot(const float* a, const float* b, std::int64_t count) {
  Lanes sums{};
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) sums += load(a + i) * load(b + i);
  if (i < count) sums += load_part(a + i, count - i, 0.0F) * load_part(b + i, count - i, 0.0F);
  return sum(sums);
}

}  // namespace spillway::kernels::cpu
