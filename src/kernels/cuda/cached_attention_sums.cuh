// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cuda/attention_mma.cuh"
#include "kernels/cuda/cached_attention_wide.cuh"

namespace spillway::kernels::cuda {

// Attention of single queries on tensor cores, which leaves the instructions of a step to its loads. A warp has up to 8 rows with the
// same keys and looks at 16 of these at a time: scores = queries · keysᵀ, sumsᵀ += valuesᵀ · powersᵀ. Which of a head's columns an
// inner index stands for is free as long as both factors agree, so that every lane reads 16 bytes of a key or a value straight into
// the operands' registers. Powers are split into two numbers of 16 bits: of a weight nothing is rounded away that its result would
// show. Lane l has g = l / 4 and c = l % 4: the scores of query g, the sums of queries 2c and 2c + 1.

inline constexpr int kCachedWarps = 4;
inline constexpr int kCachedTile = 16;    // keys
inline constexpr int kCachedQueries = 8;  // that share their keys, at most

__device__ inline float2 widened_pair(std::uint32_t pair, __nv_bfloat16 /*of*/) {
  return {__uint_as_float(pair << 16), __uint_as_float(pair & 0xFFFF0000U)};
}
__device__ inline float2 widened_pair(std::uint32_t pair, __half /*of*/) {
  return __half22float2(*reinterpret_cast<const __half2*>(&pair));
}

/// 16 keys' scores of a lane: of its query those with keys 2c, 2c + 1, 2c + 8, 2c + 9.
using LaneScores = float[4];

/// Their powers as a right operand: rounded to 16 bits, and what the rounding took away.
struct Powers {
  std::uint32_t rounded[2], rests[2];
};

[[nodiscard]] __device__ inline int lane_key(int c, int j) { return j / 2 * 8 + 2 * c + j % 2; }

/// The queries' softmax so far, of the keys that one warp has seen.
template <typename T, int kSize>
struct WarpSums {
  float peak = -INFINITY, total = 0.0F;  // of query g, the total that of this lane's keys
  float sums[kSize / 16][4] =
      {};  // [i]: columns 2i, 2i + 1 of the lane's 8 (of each 64), of query 2c in 0 and 2, 2c + 1 in 1 and 3

  /// Value of query 2c (which = 0) or 2c + 1 of what lanes have of query g.
  [[nodiscard]] __device__ static float of_columns(float of_row, int which) {
    const int c = static_cast<int>(threadIdx.x % 4);
    return __shfl_sync(0xFFFFFFFFU, of_row, 8 * c + 4 * which);
  }
  /// Weighs what there is anew where there is a larger score. \return the powers of the scores
  [[nodiscard]] __device__ Powers weigh(const LaneScores& scores) {
    float largest = fmaxf(fmaxf(fmaxf(scores[0], scores[1]), fmaxf(scores[2], scores[3])), peak);
    largest = fmaxf(largest, __shfl_xor_sync(0xFFFFFFFFU, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(0xFFFFFFFFU, largest, 2));
    if (__any_sync(0xFFFFFFFFU, largest > peak)) {
      const float shrink = power_of(peak, largest);
      const float first = of_columns(shrink, 0), second = of_columns(shrink, 1);
      peak = largest;
      total *= shrink;
#pragma unroll
      for (int i = 0; i < kSize / 16; ++i) {
        sums[i][0] *= first;
        sums[i][1] *= second;
        sums[i][2] *= first;
        sums[i][3] *= second;
      }
    }
    Powers powers;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float p0 = power_of(scores[2 * half], peak), p1 = power_of(scores[2 * half + 1], peak);
      total += p0 + p1;
      powers.rounded[half] = rounded_pair<T>(p0, p1);
      const float2 rounded = widened_pair(powers.rounded[half], T{});
      powers.rests[half] = rounded_pair<T>(p0 - rounded.x, p1 - rounded.y);
    }
    return powers;
  }
  /// Values so weighted, of the head's columns from 64 p on. \param v  of key lane_key(c, j) the 8 columns from 64 p + 8g on
  __device__ void add(int p, const Powers& powers, const uint4 (&v)[4]) {
    const std::uint32_t words[4][4] = {{v[0].x, v[0].y, v[0].z, v[0].w},
                                       {v[1].x, v[1].y, v[1].z, v[1].w},
                                       {v[2].x, v[2].y, v[2].z, v[2].w},
                                       {v[3].x, v[3].y, v[3].z, v[3].w}};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      constexpr unsigned kLow = 0x5410, kHigh = 0x7632;  // of two words, the halves of the same column
      const LeftOperand columns{
          {__byte_perm(words[0][i], words[1][i], kLow), __byte_perm(words[0][i], words[1][i], kHigh),
           __byte_perm(words[2][i], words[3][i], kLow), __byte_perm(words[2][i], words[3][i], kHigh)}};
      multiply_add<T>(sums[4 * p + i], columns, powers.rounded[0], powers.rounded[1]);
      multiply_add<T>(sums[4 * p + i], columns, powers.rests[0], powers.rests[1]);
    }
  }
  __device__ void sum_total() {
    total += __shfl_xor_sync(0xFFFFFFFFU, total, 1);
    total += __shfl_xor_sync(0xFFFFFFFFU, total, 2);
  }
};

}  // namespace spillway::kernels::cuda
