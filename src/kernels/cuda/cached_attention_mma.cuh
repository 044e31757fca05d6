// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cuda/attention_launch.cuh"
#include "kernels/cuda/cached_attention_sums.cuh"
#include "kernels/cuda/cached_keys.cuh"

namespace spillway::kernels::cuda {

template <typename T, typename Keys>
struct CachedArguments {
  Queries<T> queries;
  Keys keys;
  int together;  // rows of a group, of which those with the same keys are looked at together
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
