// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cuda/attention_launch.cuh"
#include "kernels/cuda/attention_mma.cuh"
#include "kernels/cuda/cached_attention_wide.cuh"
#include "kernels/cuda/cached_keys.cuh"

namespace spillway::kernels::cuda {

// Attention of single queries on tensor cores, which leaves the instructions of a step to its loads. A warp has up to 8 rows with the
// same keys and looks at 16 of these at a time: scores = queries · keysᵀ, sumsᵀ += valuesᵀ · powersᵀ. Which of a head's columns an
// inner index stands for is free as long as both factors agree, so that every lane reads 16 bytes of a key or a value straight into
// the operands' registers. Powers are split into two numbers of 16 bits: of a weight nothing is rounded away that its result would
// show. Lane l has g = l / 4 and c = l % 4: the scores of query g, the sums of queries 2c and 2c + 1.

inline constexpr int kCachedWarps = 4;
inline constexpr int kCachedTile = 16;    // keys
inline constexpr int kCachedQueries = 8;  // that share their keys, at most

template <typename T, typename Keys>
struct CachedArguments {
  Queries<T> queries;
  Keys keys;
  int together;  // rows of a group, of which those with the same keys are looked at together
};

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

/// What the warps of one group tell each other.
template <int kSize>
struct SplitSums {
  float peaks[kCachedWarps][kCachedQueries], totals[kCachedWarps][kCachedQueries];
  alignas(16) float sums[kCachedWarps][kCachedQueries][kSize];
};
struct NoSplitSums {};

/// kSplit warps for the rows of one group and one head: 1 or all of the block.
template <typename T, int kSize, int kSplit, typename Keys>
__global__ void __launch_bounds__(32 * kCachedWarps, kSize == 64 ? 5 : 4)
    attend_mma(const CachedArguments<T, Keys> arguments) {
  constexpr int kOfKey = kSize / 32, kOfValue = kSize / 64;  // 16 bytes that a lane reads of one
  constexpr unsigned kAllLanes = 0xFFFFFFFFU;
  const Queries<T>& queries = arguments.queries;
  const Keys& keys = arguments.keys;
  extern __shared__ float biases[];
  __shared__ std::conditional_t<kSplit == 1, NoSplitSums, SplitSums<kSize>> split;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const int g = lane / 4, c = lane % 4, part = warp % kSplit;
  const std::int64_t head = blockIdx.y, together = arguments.together;
  const std::int64_t begin =
      (static_cast<std::int64_t>(blockIdx.x) * (kCachedWarps / kSplit) + warp / kSplit) * together;
  const std::int64_t end = min(queries.rows, begin + together);
  auto its = keys.of(min(begin, queries.rows - 1));
  std::int32_t ancestor = its.ancestor(part * kCachedTile + lane % kCachedTile);  // of the tile's key lane % 16
  if (keys.reaches > 0) {                                                         // while those are on their way
    for (int reach = thread; reach < keys.reaches; reach += 32 * kCachedWarps) biases[reach] = keys.bias(head, reach);
    __syncthreads();
  }
  for (std::int64_t row = begin; row < end;) {
    int here = 1;  // queries with the keys of `row`
    while (row + here < end && keys.same(row, row + here)) ++here;
    if (row != begin) {
      its = keys.of(row);
      ancestor = its.ancestor(part * kCachedTile + lane % kCachedTile);
    }
    uint4 query[kOfKey];
#pragma unroll
    for (int p = 0; p < kOfKey; ++p)
      query[p] = g < here ? *reinterpret_cast<const uint4*>(queries.q + (row + g) * queries.q_stride + head * kSize +
                                                            32 * p + 8 * c)
                          : make_uint4(0, 0, 0, 0);
    const auto count = static_cast<int>(its.count());
    WarpSums<T, kSize> found;
    for (int base = part * kCachedTile; base < count; base += kSplit * kCachedTile) {
      uint4 k[2][kOfKey], v[kOfValue][4];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int key = base + 8 * half + g;
        const std::int32_t source = __shfl_sync(kAllLanes, ancestor, 8 * half + g);
        const T* const from = its.k_now(keys.k, source, key) + head * kSize + 8 * c;
#pragma unroll
        for (int p = 0; p < kOfKey; ++p)
          k[half][p] = key < count ? *reinterpret_cast<const uint4*>(from + 32 * p) : make_uint4(0, 0, 0, 0);
      }
      const T* values[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const std::int32_t source = __shfl_sync(kAllLanes, ancestor, lane_key(c, j));
        values[j] = its.v_now(keys.v, source, base + lane_key(c, j)) + head * kSize + 8 * g;
      }
      const auto load_values = [&](int p) {
#pragma unroll
        for (int j = 0; j < 4; ++j)
          v[p][j] = base + lane_key(c, j) < count ? *reinterpret_cast<const uint4*>(values[j] + 64 * p)
                                                  : make_uint4(0, 0, 0, 0);
      };
      load_values(0);
      ancestor = its.ancestor(base + kSplit * kCachedTile + lane % kCachedTile);
      float products[2][4] = {};
#pragma unroll
      for (int p = 0; p < kOfKey; ++p) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          multiply_add<T>(products[half], {{query[p].x, 0, query[p].y, 0}}, k[half][p].x, k[half][p].y);
          multiply_add<T>(products[half], {{query[p].z, 0, query[p].w, 0}}, k[half][p].z, k[half][p].w);
        }
      }
#pragma unroll
      for (int p = 1; p < kOfValue; ++p) load_values(p);  // into the registers of the keys
      LaneScores scores;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int key = base + lane_key(c, j);
        scores[j] = key < count ? products[j / 2][j % 2] : -INFINITY;
        if (keys.reaches > 0 && key < count) scores[j] += biases[min(count - 1 - key, keys.reaches - 1)];
      }
      const Powers powers = found.weigh(scores);
#pragma unroll
      for (int p = 0; p < kOfValue; ++p) found.add(p, powers, v[p]);
    }
    found.sum_total();
    if constexpr (kSplit == 1) {
      const float inverse = 1.0F / found.total;
#pragma unroll
      for (int which = 0; which < 2; ++which) {
        const float weight = WarpSums<T, kSize>::of_columns(inverse, which);
        if (2 * c + which >= here) continue;
        T* const to = queries.out + ((row + 2 * c + which) * queries.heads + head) * kSize + 8 * g;
#pragma unroll
        for (int p = 0; p < kOfValue; ++p) {
          std::uint32_t words[4];
#pragma unroll
          for (int i = 0; i < 4; ++i)
            words[i] =
                rounded_pair<T>(found.sums[4 * p + i][which] * weight, found.sums[4 * p + i][2 + which] * weight);
          *reinterpret_cast<uint4*>(to + 64 * p) = make_uint4(words[0], words[1], words[2], words[3]);
        }
      }
    } else {
      if (c == 0) {
        split.peaks[warp][g] = found.peak;
        split.totals[warp][g] = found.total;
      }
#pragma unroll
      for (int which = 0; which < 2; ++which) {
        if (2 * c + which >= here) continue;
#pragma unroll
        for (int i = 0; i < kSize / 16; ++i)
          *reinterpret_cast<float2*>(&split.sums[warp][2 * c + which][i / 4 * 64 + 8 * g + i % 4 * 2]) = {
              found.sums[i][which], found.sums[i][2 + which]};
      }
      __syncthreads();
      for (int at = thread; at < here * kSize; at += 32 * kCachedWarps) {
        const int i = at / kSize, column = at % kSize;
        float largest = split.peaks[0][i];
#pragma unroll
        for (int w = 1; w < kCachedWarps; ++w) largest = fmaxf(largest, split.peaks[w][i]);
        float total = 0.0F, sum = 0.0F;
#pragma unroll
        for (int w = 0; w < kCachedWarps; ++w) {
          const float weight = power_of(split.peaks[w][i], largest);
          total += split.totals[w][i] * weight;
          sum += split.sums[w][i][column] * weight;
        }
        queries.out[((row + i) * queries.heads + head) * kSize + column] = narrow<T>(sum / total);
      }
      __syncthreads();  // the next rows of this block write there
    }
    if (part == 0)
      for (int i = 0; i < here; ++i) keys.append(row + i, head, kSize, lane, 32);
    row += here;
  }
}

/// Launches it if there is one for this type and head size, and the GPU has the instructions; reads_16_bytes() holds for all
/// addresses, the output's too. \returns whether it did
/// \param together  rows that have the same keys, as far as is known
template <typename T, typename Keys>
[[nodiscard]] bool launch_mma(cudaStream_t stream, const Queries<T>& queries, const Keys& keys, int together,
                              const char* op) {
  if constexpr (std::is_same_v<T, float>) {
    return false;
  } else {
    constexpr std::int64_t kManyGroups = 1024;  // warps that keep a GPU's memory busy
    const std::int64_t groups = (queries.rows + together - 1) / together;
    const bool alone = groups * queries.heads >= kManyGroups;
    const CachedArguments<T, Keys> arguments{queries, keys, together};
    const std::size_t bytes = static_cast<std::size_t>(keys.reaches) * sizeof(float);
    const auto start = [&]<int kSize, int kSplit>() {
      constexpr int kGroups = kCachedWarps / kSplit;
      const dim3 blocks(static_cast<unsigned>((groups + kGroups - 1) / kGroups), static_cast<unsigned>(queries.heads));
      return launch_on_tensor_cores<&attend_mma<T, kSize, kSplit, Keys>, kFirstWithProducts<T>>(
          stream, op, blocks, 32 * kCachedWarps, bytes, arguments);
    };
    switch (queries.head_size) {
      case 64: return alone ? start.template operator()<64, 1>() : start.template operator()<64, kCachedWarps>();
      case 128: return alone ? start.template operator()<128, 1>() : start.template operator()<128, kCachedWarps>();
      default: return false;
    }
  }
}

}  // namespace spillway::kernels::cuda
