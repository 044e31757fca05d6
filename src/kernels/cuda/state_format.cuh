// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/philox.hpp"
#include "kernels/cuda/eight.cuh"
#include "kernels/cuda/state_codes.hpp"

namespace spillway::kernels::cuda {

/// Memory in which the threads of one warp hand each other their draws: word w of thread t's at [w][t].
/// The padding spreads what is read at once over the banks.
struct WarpDraws {
  std::uint32_t words[4][33];
};

/// Eight elements under StochasticRounding, by all threads of a warp whose first element has index `warp_first` in the unit, a
/// multiple of 256: each thread draws once, for elements that lie 16 apart, and takes its own eight from the others.
__device__ inline void round_stochastically(const float (&values)[kEach], const StochasticRounding& rounding,
                                            std::int64_t warp_first, WarpDraws& draws, std::uint16_t (&bf16)[kEach]) {
  const unsigned lane = threadIdx.x % 32;
  const std::uint64_t counter = static_cast<std::uint64_t>(warp_first / 8) + lane;
  const Philox::Counter drawn = Philox::draw(
      rounding.key,
      {static_cast<std::uint32_t>(counter), static_cast<std::uint32_t>(counter >> 32), rounding.site, 0x53520000U});
  __syncwarp();
  for (int word = 0; word < 4; ++word) draws.words[word][lane] = drawn[static_cast<std::size_t>(word)];
  __syncwarp();
  const unsigned part = lane / 2 % 8;  // l of the eight, whose j begin at 0 or 8
  const unsigned from = lane / 16 * 16 + lane % 2 * 8;
  for (unsigned i = 0; i < kEach; ++i) {
    const std::uint32_t draw = draws.words[part / 2][from + i] >> (16 * (part % 2)) & 0xFFFFU;
    bf16[i] = static_cast<std::uint16_t>((__float_as_uint(values[i]) + draw) >> 16);
  }
}

/// The codes of a warp's block, whose scale is returned to all threads (quantise() of the CPU form).
__device__ inline float quantise(const float (&values)[kEach], const Eight& at, const StateCodes& codes,
                                 std::uint8_t (&code)[kEach]) {
  constexpr unsigned kAll = 0xFFFFFFFFU;
  std::uint32_t largest = 0;
  for (const float value : values) largest = max(largest, __float_as_uint(value) & 0x7FFFFFFFU);
  for (int step = 16; step > 0; step /= 2) largest = max(largest, __shfl_xor_sync(kAll, largest, step));
  bool positive = false;
  for (int i = 0; i < kEach; ++i) positive = positive || (at.has(i) && __float_as_uint(values[i]) == largest);
  const float magnitude_of_scale = __uint_as_float(largest);
  const float scale = __any_sync(kAll, positive ? 1 : 0) != 0 ? magnitude_of_scale : -magnitude_of_scale;
  const float divisor = largest == 0 ? 1.0F : scale;
  for (int i = 0; i < kEach; ++i) {
    const std::int32_t bits = __float_as_int(__fdiv_rn(values[i], divisor));
    const std::int32_t magnitude_bits = bits & 0x7FFFFFFF;
    const std::int32_t cell = min(max((magnitude_bits >> 16) - DynamicCodes::kLowestCell, 0), DynamicCodes::kCells - 1);
    const std::int32_t first = codes.first[static_cast<std::size_t>(cell)];
    const std::int32_t magnitude =
        first + (__int_as_float(magnitude_bits) > codes.above[static_cast<std::size_t>(first)] ? 1 : 0);
    code[i] = static_cast<std::uint8_t>(codes.zero + (bits < 0 ? -min(magnitude, codes.largest_negative) : magnitude));
  }
  return scale;
}

struct RawState {
  RawEight values;
  float scale;
};

/// A StateView. All threads of a warp read and write together; with scales a warp's elements are a block.
struct StateNumbers {
  void* values;
  float* scales;
  DType dtype;
  const StateCodes* codes;

  static StateNumbers of(const StateView& view, const StateCodeTables* tables, StateSign sign) {
    return {view.values.data(), reinterpret_cast<float*>(view.scales.data()), view.values.dtype(),
            sign == StateSign::either ? &tables->either : &tables->nonnegative};
  }
  [[nodiscard]] __device__ float* scale_of(const Eight& at) const { return scales + at.begin / kStateBlock; }

  [[nodiscard]] __device__ RawState fetch(const Eight& at) const {
    if (dtype != DType::u8) return {Numbers{values, dtype}.fetch(at), 0.0F};
    return {cuda::fetch(static_cast<const std::uint8_t*>(values), at), at.from < at.to ? *scale_of(at) : 0.0F};
  }
  __device__ void widen(const RawState& raw, float (&to)[kEach]) const {
    if (dtype != DType::u8) return Numbers{values, dtype}.widen(raw.values, to);
    std::uint8_t code[kEach];
    unpack(raw.values, code);
    for (int i = 0; i < kEach; ++i) to[i] = __fmul_rn(codes->map[code[i]], raw.scale);
  }
  __device__ void read(const Eight& at, float (&to)[kEach]) const { widen(fetch(at), to); }
  /// \param warp_first  as round_stochastically() has it
  __device__ void write(const Eight& at, const float (&from)[kEach], const StochasticRounding& rounding,
                        std::int64_t warp_first, WarpDraws& draws) const {
    if (dtype == DType::f32) return store(static_cast<float*>(values), at, from);
    if (dtype == DType::bf16) {
      std::uint16_t bits[kEach];
      round_stochastically(from, rounding, warp_first, draws, bits);
      return store(static_cast<std::uint16_t*>(values), at, bits);
    }
    std::uint8_t code[kEach];
    float inside[kEach];
    for (int i = 0; i < kEach; ++i) inside[i] = at.has(i) ? from[i] : 0.0F;
    const float scale = quantise(inside, at, *codes, code);
    store(static_cast<std::uint8_t*>(values), at, code);
    if (threadIdx.x % 32 == 0 && at.from < at.to) *scale_of(at) = scale;
  }
};

/// Where the elements of a tensor lie in the warps, so that whoever rounds stochastically has whole groups of draws.
struct UnitPlace {
  std::int64_t first, offset;  // of the tensor in the unit, and in its first 256

  static UnitPlace of(const StochasticRounding& rounding, bool rounds) {
    return {rounding.first, rounds ? rounding.first % kStateBlock : 0};
  }
  /// Index in the unit of the first element of this warp.
  [[nodiscard]] __device__ std::int64_t warp_first(const Eight& at) const {
    return first + at.begin - static_cast<std::int64_t>(threadIdx.x % 32) * kEach;
  }
};

}  // namespace spillway::kernels::cuda
