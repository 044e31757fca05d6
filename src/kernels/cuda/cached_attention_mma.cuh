// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cuda/attention_launch.cuh"
#include "kernels/cuda/cached_keys.cuh"
#include "kernels/cuda/cached_tile.cuh"

namespace spillway::kernels::cuda {

template <typename T, typename Keys>
struct CachedArguments {
  Queries<T> queries;
  Keys keys;
  int together;  // rows of a group, of which those with the same keys are looked at together
};

/// What a warp has in shared memory: a tile of keys, whose place its sums take in the end, and one of values.
template <typename T, int kSize>
struct WarpTiles {
  T keys[kCachedTile * kSize], values[kCachedTile * kSize];

  [[nodiscard]] __device__ float* sums(int query) { return reinterpret_cast<float*>(keys) + query * kSize; }
};
static_assert(sizeof(WarpTiles<__half, 64>::keys) == kCachedQueries * 64 * sizeof(float));

/// Begins to copy a tile's 16 rows. \param from  (key of the tile) where its row starts \param keys  that there are
template <typename T, int kSize, typename From>
__device__ void copy_rows(T* tile, int keys, const From& from) {
  constexpr int kPieces = kRowPieces<kSize>, kTogether = 32 / kPieces;
  const int lane = static_cast<int>(threadIdx.x % 32), piece = lane % kPieces;
#pragma unroll
  for (int i = 0; i < kCachedTile / kTogether; ++i) {
    const int row = i * kTogether + lane / kPieces;
    begin_copy(tile + row * kSize + 8 * piece_place(row, piece), from(row) + 8 * piece, row < keys);
  }
}

/// kSplit warps for the rows of one group and one head: 1 or all of the block. Each copies its keys and its values to shared memory, a
/// tile of the ones while it looks at one of the others.
template <typename T, int kSize, int kSplit, typename Keys>
__global__ void __launch_bounds__(32 * kCachedWarps, 5) attend_mma(const CachedArguments<T, Keys> arguments) {
  constexpr int kOfKey = kSize / 32, kOfValue = kSize / 64;  // 16 bytes that a lane reads of one
  constexpr int kStep = kSplit * kCachedTile;
  constexpr unsigned kAllLanes = 0xFFFFFFFFU;
  const Queries<T>& queries = arguments.queries;
  const Keys& keys = arguments.keys;
  extern __shared__ uint4 cached_memory[];
  __shared__ float peaks[kCachedWarps][kCachedQueries], totals[kCachedWarps][kCachedQueries];
  auto* const tiles = reinterpret_cast<WarpTiles<T, kSize>*>(cached_memory);
  auto* const biases = reinterpret_cast<float*>(tiles + kCachedWarps);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const int g = lane / 4, c = lane % 4, part = warp % kSplit;
  const std::int64_t head = blockIdx.y, together = arguments.together;
  const std::int64_t begin =
      (static_cast<std::int64_t>(blockIdx.x) * (kCachedWarps / kSplit) + warp / kSplit) * together;
  const std::int64_t end = min(queries.rows, begin + together);
  WarpTiles<T, kSize>& tile = tiles[warp];
  if (keys.reaches > 0) {
    for (int reach = thread; reach < keys.reaches; reach += 32 * kCachedWarps) biases[reach] = keys.bias(head, reach);
    __syncthreads();
  }
  for (std::int64_t row = begin; row < end;) {
    const auto its = keys.of(row);
    const int first = part * kCachedTile;
    std::int32_t ancestor = its.ancestor(first + lane % kCachedTile);  // of the tile's key lane % 16
    std::int32_t next_ancestor = its.ancestor(first + kStep + lane % kCachedTile);
    const auto count = static_cast<int>(its.count());
    const auto copy_keys = [&](int base) {
      if (base < count)
        copy_rows<T, kSize>(tile.keys, count - base, [&](int key) {
          return its.k_now(keys.k, __shfl_sync(kAllLanes, ancestor, key), base + key) + head * kSize;
        });
      end_copy_group();
    };
    const auto copy_values = [&](int base) {
      if (base < count)
        copy_rows<T, kSize>(tile.values, count - base, [&](int key) {
          return its.v_now(keys.v, __shfl_sync(kAllLanes, ancestor, key), base + key) + head * kSize;
        });
      end_copy_group();
    };
    copy_keys(first);
    copy_values(first);
    int here = 1;  // queries with the keys of `row`
    while (row + here < end && keys.same(row, row + here)) ++here;
    uint4 query[kOfKey];
#pragma unroll
    for (int p = 0; p < kOfKey; ++p)
      query[p] = g < here ? *reinterpret_cast<const uint4*>(queries.q + (row + g) * queries.q_stride + head * kSize +
                                                            32 * p + 8 * c)
                          : make_uint4(0, 0, 0, 0);
    WarpSums<T, kSize> found;
    for (int base = first; base < count; base += kStep) {
      wait_for_copies<1>();
      __syncwarp();
      float products[2][4] = {};
      score_keys<T, kSize>(products, query, tile.keys, kSize, [&](int half) { return 8 * half + g; });
      __syncwarp();
      ancestor = next_ancestor;
      next_ancestor = its.ancestor(base + 2 * kStep + lane % kCachedTile);
      copy_keys(base + kStep);
      LaneScores scores;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int key = base + lane_key(c, j);
        scores[j] = key < count ? products[j / 2][j % 2] : -INFINITY;
        if (keys.reaches > 0 && key < count) scores[j] += biases[min(count - 1 - key, keys.reaches - 1)];
      }
      const Powers powers = found.weigh(scores);
      wait_for_copies<1>();
      __syncwarp();
      add_values<T, kSize>(found, powers, tile.values, kSize, [&](int j) { return lane_key(c, j); });
      __syncwarp();
      copy_values(base + kStep);
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
        peaks[warp][g] = found.peak;
        totals[warp][g] = found.total;
      }
#pragma unroll
      for (int which = 0; which < 2; ++which) {
        if (2 * c + which >= here) continue;
#pragma unroll
        for (int i = 0; i < kSize / 16; ++i)
          *reinterpret_cast<float2*>(tile.sums(2 * c + which) + i / 4 * 64 + 8 * g + i % 4 * 2) = {
              found.sums[i][which], found.sums[i][2 + which]};
      }
      __syncthreads();
      for (int at = thread; at < here * kSize; at += 32 * kCachedWarps) {
        const int i = at / kSize, column = at % kSize;
        float largest = peaks[0][i];
#pragma unroll
        for (int w = 1; w < kCachedWarps; ++w) largest = fmaxf(largest, peaks[w][i]);
        float total = 0.0F, sum = 0.0F;
#pragma unroll
        for (int w = 0; w < kCachedWarps; ++w) {
          const float weight = power_of(peaks[w][i], largest);
          total += totals[w][i] * weight;
          sum += tiles[w].sums(i)[column] * weight;
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
    const auto start = [&]<int kSize, int kSplit>() {
      const std::size_t bytes =
          kCachedWarps * sizeof(WarpTiles<T, kSize>) + static_cast<std::size_t>(keys.reaches) * sizeof(float);
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
