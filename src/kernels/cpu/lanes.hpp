// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <cstring>

namespace spillway::kernels::cpu {

/// Sixteen floats that are worked on at once, on every CPU: the compiler splits them into what the instruction set has.
/// Since the number of lanes is fixed and nothing is contracted, results are the same bits on all of them.
using Lanes [[gnu::vector_size(64)]] = float;
using LaneBits [[gnu::vector_size(64)]] = std::uint32_t;
inline constexpr std::int64_t kLanes = 16;

// GCC warns, at callers too, that how 64-byte vectors are returned depends on the instruction set. No function of these
// headers that returns one is ever called: all are always inlined.
#pragma GCC diagnostic ignored "-Wpsabi"

[[gnu::always_inline]] inline Lanes splat(float value) { return Lanes{} + value; }

[[gnu::always_inline]] inline Lanes load(const float* from) {
  Lanes lanes;
  std::memcpy(&lanes, from, sizeof lanes);
  return lanes;
}

[[gnu::always_inline]] inline void store(float* to, const Lanes& lanes) { std::memcpy(to, &lanes, sizeof lanes); }

/// The first `count` (1 to 15) floats, then `fill`.
[[gnu::always_inline]] inline Lanes load_part(const float* from, std::int64_t count, float fill) {
  std::array<float, kLanes> part;
  part.fill(fill);
  std::memcpy(part.data(), from, static_cast<std::size_t>(count) * sizeof(float));
  return load(part.data());
}

[[gnu::always_inline]] inline void store_part(float* to, const Lanes& lanes, std::int64_t count) {
  std::memcpy(to, &lanes, static_cast<std::size_t>(count) * sizeof(float));
}

/// `lanes` where the lane's number is below `count`, `fill` elsewhere.
[[gnu::always_inline]] inline Lanes keep_first(const Lanes& lanes, std::int64_t count, float fill) {
  constexpr LaneBits kNumbers{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return kNumbers < static_cast<std::uint32_t>(count) ? lanes : splat(fill);
}

[[gnu::always_inline]] inline Lanes larger(const Lanes& a, const Lanes& b) { return a > b ? a : b; }

/// The lanes' sum, always in the same order.
[[gnu::always_inline]] inline float sum_of(const Lanes& lanes) {
  std::array<float, kLanes> part;
  store(part.data(), lanes);
  for (std::size_t half = kLanes / 2; half > 0; half /= 2) {
    for (std::size_t i = 0; i < half; ++i) part[i] += part[i + half];
  }
  return part[0];
}

[[gnu::always_inline]] inline float largest_of(const Lanes& lanes) {
  std::array<float, kLanes> part;
  store(part.data(), lanes);
  for (std::size_t half = kLanes / 2; half > 0; half /= 2) {
    for (std::size_t i = 0; i < half; ++i) part[i] = part[i] > part[i + half] ? part[i] : part[i + half];
  }
  return part[0];
}

/// Σ a[i] b[i].
[[gnu::always_inline]] inline float dot(const float* a, const float* b, std::int64_t count) {
  Lanes sum{};
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) sum += load(a + i) * load(b + i);
  if (i < count) sum += load_part(a + i, count - i, 0.0F) * load_part(b + i, count - i, 0.0F);
  return sum_of(sum);
}

/// e^x for x up to 88, within 2 units in the last place; 0 below -87; NaN stays NaN. Cephes' expf: e^x = 2^n e^r,
/// |r| <= ln(2) / 2, e^r by a polynomial.
[[gnu::always_inline]] inline Lanes exp_lanes(const Lanes& x) {
  constexpr float kRound = 12582912.0F;  // 1.5 · 2^23: adding it leaves the nearest integer in the low bits
  const Lanes shifted = x * 1.44269504088896341F + kRound;
  const Lanes n = shifted - kRound;
  const Lanes r = (x - n * 0.693359375F) - n * -2.12194440e-4F;
  Lanes p = r * 1.9875691500e-4F + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  const Lanes e_r = p * (r * r) + r + 1.0F;
  LaneBits bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits << 23U) + 0x3F800000U;
  Lanes two_n;
  std::memcpy(&two_n, &bits, sizeof two_n);
  return x < -87.0F ? Lanes{} : e_r * two_n;
}

template <typename Body>
[[gnu::target("avx512f")]] void run_with_avx512(const Body& body) {
  body();
}
template <typename Body>
[[gnu::target("avx2")]] void run_with_avx2(const Body& body) {
  body();
}

/// Calls `body`, compiled for the widest instructions of this CPU. `body` is a lambda marked always_inline, and so is
/// what it calls in its hot loops.
template <typename Body>
void run_vectorised(const Body& body) {
  static const int level = __builtin_cpu_supports("avx512f") ? 2 : __builtin_cpu_supports("avx2") ? 1 : 0;
  if (level == 2) return run_with_avx512(body);
  if (level == 1) return run_with_avx2(body);
  body();
}

}  // namespace spillway::kernels::cpu
