// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>

namespace spillway::kernels::cpu {

/// Sixteen numbers that are worked on at once: one AVX-512 register, two of AVX2, four of SSE. The number of lanes is part of the
/// result of a sum and so the same on every processor. These are the compiler's vector types; functions that take or return them
/// are always inlined, since their calling convention depends on the instruction set.
inline constexpr std::int64_t kLanes = 16;
using Lanes [[gnu::vector_size(64)]] = float;
using IntLanes [[gnu::vector_size(64)]] = std::int32_t;

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

}  // namespace spillway::kernels::cpu
