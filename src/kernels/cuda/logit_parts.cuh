// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/cuda/combine_block.cuh"
#include "kernels/cuda/normaliser.cuh"

namespace spillway::kernels::cuda {

// A row of logits by several thread blocks, a part of it each: a few hundred rows alone do not keep a GPU's memory busy.

inline constexpr int kPartThreads = 256;
inline constexpr int kPartHeld = 16;  // logits of a part that each thread keeps in registers
/// Rows of at most as many are worked on in parts.
inline constexpr std::int64_t kMostInParts = std::int64_t{kRowParts} * kPartHeld * kPartThreads;

/// Logits of a part: that of quads which all parts but the last have full.
[[nodiscard]] inline std::int32_t part_size(std::int64_t vocabulary) {
  const std::int64_t quads = (vocabulary + 3) / 4;
  return static_cast<std::int32_t>((quads + kRowParts - 1) / kRowParts * 4);
}

/// A thread's logits of block (part, row), -infinity behind the part's end. They are in the order of their places.
struct HeldLogits {
  float values[kPartHeld];
  std::int32_t begin, end;  // of the part

  __device__ HeldLogits(const float* logits, std::int32_t vocabulary, std::int32_t size, bool whole_quads) {
    begin = static_cast<std::int32_t>(blockIdx.x) * size;
    end = min(vocabulary, begin + size);
    const float* const row = logits + static_cast<std::int64_t>(blockIdx.y) * vocabulary;
#pragma unroll
    for (int i = 0; i < kPartHeld; i += 4) {
      const std::int32_t first = place(i);
      if (whole_quads && first < end) {
        const float4 quad = *reinterpret_cast<const float4*>(row + first);
        values[i] = quad.x;
        values[i + 1] = quad.y;
        values[i + 2] = quad.z;
        values[i + 3] = quad.w;
      } else {
#pragma unroll
        for (int e = 0; e < 4; ++e) values[i + e] = first + e < end ? row[first + e] : -INFINITY;
      }
    }
  }
  [[nodiscard]] __device__ std::int32_t place(int i) const {
    return begin + (i / 4 * kPartThreads + static_cast<std::int32_t>(threadIdx.x)) * 4 + i % 4;
  }
};

/// What a part of a row adds to its softmax: grid (kRowParts, rows).
__global__ void __launch_bounds__(kPartThreads)
    measure_parts(const float* logits, std::int32_t vocabulary, std::int32_t size, bool whole_quads, PartSum* sums) {
  const HeldLogits held(logits, vocabulary, size, whole_quads);
  float largest = -INFINITY;
#pragma unroll
  for (const float x : held.values) largest = fmaxf(largest, x);
  const float peak = combine_block<kPartThreads>(largest, [](float a, float b) { return fmaxf(a, b); });
  double mine = 0.0;
#pragma unroll
  for (const float x : held.values) mine += static_cast<double>(x == -INFINITY ? 0.0F : expf(x - peak));
  const double total = block_sum<kPartThreads>(mine);
  if (threadIdx.x == 0) sums[blockIdx.y * kRowParts + blockIdx.x] = {total, peak};
}

/// From the sums of a row's parts, by the whole first warp of a block; the others get nothing.
__device__ inline Normaliser normaliser_of_parts(const PartSum* sums, std::int32_t row, NoDistribution* failure) {
  static_assert(32 % kRowParts == 0);
  const PartSum part = sums[row * kRowParts + static_cast<std::int32_t>(threadIdx.x) % kRowParts];
  float peak = part.peak;
#pragma unroll
  for (int step = 1; step < kRowParts; step *= 2) peak = fmaxf(peak, __shfl_xor_sync(0xFFFFFFFFU, peak, step));
  // A part of zeros alone has no peak; a row of them has no distribution.
  const bool nothing = part.peak == -INFINITY && peak != -INFINITY;
  double total = nothing ? part.total : part.total * exp(static_cast<double>(part.peak) - static_cast<double>(peak));
#pragma unroll
  for (int step = 1; step < kRowParts; step *= 2) total += __shfl_xor_sync(0xFFFFFFFFU, total, step);
  if (!isfinite(total) && threadIdx.x == 0) *failure = {row, peak, total};
  return {peak, static_cast<float>(log(total))};
}

/// Numbers in the order of scores; 0 is before all of them. Zeros of both signs are equal.
__device__ inline std::uint32_t in_order(float score) {
  const std::uint32_t bits = __float_as_uint(score + 0.0F);
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}
__device__ inline float from_order(std::uint32_t number) {
  return __uint_as_float((number & 0x80000000U) != 0 ? number & 0x7FFFFFFFU : ~number);
}

/// A score in order and its place, of which the smaller is better.
struct Ranked {
  std::uint32_t number = 0;
  std::uint32_t place = UINT32_MAX;

  /// The best of a warp, for all of its lanes.
  [[nodiscard]] __device__ Ranked of_warp() const {
#if __CUDA_ARCH__ >= 800
    const std::uint32_t best = __reduce_max_sync(0xFFFFFFFFU, number);
    return {best, __reduce_min_sync(0xFFFFFFFFU, number == best ? place : UINT32_MAX)};
#else
    Ranked best = *this;
    for (int step = 16; step > 0; step /= 2) {
      const Ranked other{__shfl_xor_sync(0xFFFFFFFFU, best.number, step),
                         __shfl_xor_sync(0xFFFFFFFFU, best.place, step)};
      if (other.number > best.number || (other.number == best.number && other.place < best.place)) best = other;
    }
    return best;
#endif
  }
};

/// The `count` best of a part of a row, best first; NaN scores where it has not as many. Grid (kRowParts, rows).
/// \param sums  of measure_parts; null: the logits are normalised
__global__ void __launch_bounds__(kPartThreads)
    search_parts(const float* logits, const float* row_scores, std::int32_t vocabulary, std::int32_t size,
                 bool whole_quads, const PartSum* sums, std::int32_t count, Candidate* candidates,
                 NoDistribution* failure) {
  __shared__ Ranked of_warps[2][kPartThreads / 32];
  __shared__ Normaliser shared_normaliser;
  const HeldLogits held(logits, vocabulary, size, whole_quads);
  const auto row = static_cast<std::int32_t>(blockIdx.y);
  const int thread = static_cast<int>(threadIdx.x);
  const float row_score = row_scores[row];
  Normaliser normaliser;
  if (sums != nullptr) {
    if (thread < 32) {
      normaliser = normaliser_of_parts(sums, row, failure);
      if (thread == 0) shared_normaliser = normaliser;
    }
    __syncthreads();
    normaliser = shared_normaliser;
  }
  std::uint32_t numbers[kPartHeld];
#pragma unroll
  for (int i = 0; i < kPartHeld; ++i) {
    const float score = row_score + normaliser.apply(held.values[i]);
    numbers[i] = held.place(i) < held.end ? in_order(isnan(score) ? -INFINITY : score) : 0;
  }
  const auto best_left = [&] {
    Ranked best;
#pragma unroll
    for (int i = 0; i < kPartHeld; ++i)
      if (numbers[i] > best.number) best = {numbers[i], static_cast<std::uint32_t>(held.place(i))};
    return best;
  };
  Ranked mine = best_left();
  Candidate* const to = candidates + (static_cast<std::int64_t>(row) * kRowParts + blockIdx.x) * count;
  for (std::int32_t c = 0; c < count; ++c) {
    Ranked* const shared = of_warps[c % 2];  // the other one may be read still
    const Ranked of_mine = mine.of_warp();
    if (thread % 32 == 0) shared[thread / 32] = of_mine;
    __syncthreads();
    const Ranked best = shared[thread % (kPartThreads / 32)].of_warp();
    if (best.number == 0) {
      if (thread == 0) to[c] = {NAN, 0};
      continue;
    }
    if (best.place != mine.place || mine.number == 0) continue;
    to[c] = {from_order(best.number), static_cast<std::int32_t>(best.place)};
#pragma unroll
    for (int i = 0; i < kPartHeld; ++i)
      if (static_cast<std::uint32_t>(held.place(i)) == best.place) numbers[i] = 0;
    mine = best_left();
  }
}

}  // namespace spillway::kernels::cuda
