// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "kernels/cpu/philox_lanes.hpp"
#include "kernels/dynamic_map.hpp"
#include "kernels/exact_master.hpp"
#include "kernels/float16.hpp"
#include "kernels/optimizer_state.hpp"

namespace spillway::kernels::cpu {

/// Elements that are widened, worked on and rounded at once, in the first-level cache.
inline constexpr std::int64_t kTile = 512;
static_assert(kTile % kStateBlock == 0);

[[gnu::always_inline]] inline void widen(const std::uint16_t* __restrict bf16, float* __restrict to,
                                         std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) to[i] = std::bit_cast<float>(static_cast<std::uint32_t>(bf16[i]) << 16);
}

[[gnu::always_inline]] inline void widen_f16(const std::uint16_t* __restrict f16, float* __restrict to,
                                             std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) to[i] = widened_f16(f16[i]);
}

/// The elements of a gradient from `begin` on, in place if they are f32, else in `tile`.
[[gnu::always_inline]] inline const float* read_tile(const ConstTensorView& view, std::int64_t begin,
                                                     std::int64_t count, float* __restrict tile) {
  if (view.dtype() == DType::f32) return reinterpret_cast<const float*>(view.data()) + begin;
  const auto* halves = reinterpret_cast<const std::uint16_t*>(view.data()) + begin;
  if (view.dtype() == DType::f16) widen_f16(halves, tile, count);
  else widen(halves, tile, count);
  return tile;
}

/// The parameters from `begin` on, in place if they or their master are f32, else in `tile`.
[[gnu::always_inline]] inline float* read_tile(const ParameterView& view, std::int64_t begin, std::int64_t count,
                                               float* __restrict tile) {
  if (!view.master) return reinterpret_cast<float*>(view.weight.data()) + begin;
  if (view.master.dtype() == DType::f32) return reinterpret_cast<float*>(view.master.data()) + begin;
  const auto* weight = reinterpret_cast<const std::uint16_t*>(view.weight.data()) + begin;
  const auto* master = reinterpret_cast<const std::int16_t*>(view.master.data()) + begin;
  for (std::int64_t i = 0; i < count; ++i) tile[i] = join({weight[i], master[i]});
  return tile;
}

[[gnu::always_inline]] inline void write_tile(const ParameterView& view, std::int64_t begin, std::int64_t count,
                                              const float* __restrict tile) {
  if (!view.master) return;
  auto* __restrict weight = reinterpret_cast<std::uint16_t*>(view.weight.data()) + begin;
  if (view.master.dtype() == DType::f32) {
    for (std::int64_t i = 0; i < count; ++i) weight[i] = rounded_f16(tile[i]);
    return;
  }
  auto* __restrict master = reinterpret_cast<std::int16_t*>(view.master.data()) + begin;
  for (std::int64_t i = 0; i < count; ++i) {
    const SplitFloat parts = split(tile[i]);
    weight[i] = parts.weight;
    master[i] = parts.master;
  }
}

/// A state's elements from `begin` (of whole blocks, if it has scales), in place if they are f32, else in `tile`.
[[gnu::always_inline]] inline float* read_tile(const StateView& view, const DynamicCodes& codes, std::int64_t begin,
                                               std::int64_t count, float* __restrict tile) {
  if (view.values.dtype() == DType::f32) return reinterpret_cast<float*>(view.values.data()) + begin;
  if (view.values.dtype() == DType::bf16) {
    widen(reinterpret_cast<const std::uint16_t*>(view.values.data()) + begin, tile, count);
    return tile;
  }
  const auto* __restrict code = reinterpret_cast<const std::uint8_t*>(view.values.data()) + begin;
  const float* __restrict map = codes.map.data();
  const auto* scales = reinterpret_cast<const float*>(view.scales.data()) + begin / kStateBlock;
  for (std::int64_t block = 0; block < count; block += kStateBlock) {
    const float scale = scales[block / kStateBlock];
    const std::int64_t end = std::min(count, block + kStateBlock);
    for (std::int64_t i = block; i < end; ++i) tile[i] = map[code[i]] * scale;
  }
  return tile;
}

/// StochasticRounding of elements `begin` to begin + count - 1 of the tensor, at most kTile.
[[gnu::always_inline]] inline void round_stochastically(const float* __restrict values, std::uint16_t* __restrict bf16,
                                                        std::int64_t begin, std::int64_t count,
                                                        const StochasticRounding& rounding) {
  alignas(64) std::uint32_t lanes[kTile + 256];
  const std::int64_t first = rounding.first + begin;
  const std::int64_t start = first / 128 * 128;
  for (std::int64_t group = start; group < first + count; group += 128) {
    const auto counter = static_cast<std::uint64_t>(group / 8);
    const SixteenDraws draws = philox_sixteen(
        rounding.key,
        {static_cast<std::uint32_t>(counter), static_cast<std::uint32_t>(counter >> 32), rounding.site, 0x53520000U});
    std::uint32_t* to = lanes + (group - start);
    draws.word<0>(to), draws.word<1>(to + 32), draws.word<2>(to + 64), draws.word<3>(to + 96);
    for (int word = 0; word < 4; ++word, to += 32) {
      for (int j = 0; j < 16; ++j) to[16 + j] = to[j] >> 16;
      for (int j = 0; j < 16; ++j) to[j] &= 0xFFFFU;
    }
  }
  const std::uint32_t* lane = lanes + (first - start);
  for (std::int64_t i = 0; i < count; ++i)
    bf16[i] = static_cast<std::uint16_t>((std::bit_cast<std::uint32_t>(values[i]) + lane[i]) >> 16);
}

/// The codes of one block, whose scale is returned: the number of the largest magnitude, with its sign, so that it is kept exactly and a
/// block that is read out and stored again has the same codes. (The map has no -1.)
[[gnu::always_inline]] inline float quantise(const float* __restrict values, std::uint8_t* __restrict code,
                                             std::int64_t count, const DynamicCodes& codes) {
  const std::int32_t* __restrict firsts = codes.first.data();
  const float* __restrict above = codes.above.data();
  const std::int32_t zero = codes.zero, largest_negative = codes.largest_negative;
  std::uint32_t largest = 0;
  for (std::int64_t i = 0; i < count; ++i)
    largest = std::max(largest, std::bit_cast<std::uint32_t>(values[i]) & 0x7FFFFFFFU);
  std::uint32_t positive = 0;
  for (std::int64_t i = 0; i < count; ++i) positive |= std::bit_cast<std::uint32_t>(values[i]) == largest ? 1U : 0U;
  const float scale = positive != 0 ? std::bit_cast<float>(largest) : -std::bit_cast<float>(largest);
  const float divisor = largest == 0 ? 1.0F : scale;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto bits = std::bit_cast<std::int32_t>(values[i] / divisor);
    const std::int32_t magnitude_bits = bits & 0x7FFFFFFF;
    const std::int32_t cell =
        std::clamp((magnitude_bits >> 16) - DynamicCodes::kLowestCell, 0, DynamicCodes::kCells - 1);
    const std::int32_t first = firsts[cell];
    const std::int32_t magnitude = first + (std::bit_cast<float>(magnitude_bits) > above[first] ? 1 : 0);
    code[i] = static_cast<std::uint8_t>(zero + (bits < 0 ? -std::min(magnitude, largest_negative) : magnitude));
  }
  return scale;
}

[[gnu::always_inline]] inline void write_tile(const StateView& view, const DynamicCodes& codes, std::int64_t begin,
                                              std::int64_t count, const float* tile,
                                              const StochasticRounding& rounding) {
  if (view.values.dtype() == DType::f32) return;
  if (view.values.dtype() == DType::bf16)
    return round_stochastically(tile, reinterpret_cast<std::uint16_t*>(view.values.data()) + begin, begin, count,
                                rounding);
  auto* code = reinterpret_cast<std::uint8_t*>(view.values.data()) + begin;
  auto* scales = reinterpret_cast<float*>(view.scales.data()) + begin / kStateBlock;
  for (std::int64_t block = 0; block < count; block += kStateBlock)
    scales[block / kStateBlock] = quantise(tile + block, code + block, std::min(count - block, kStateBlock), codes);
}

}  // namespace spillway::kernels::cpu
