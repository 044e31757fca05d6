// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cuda/cached_keys.cuh"
#include "kernels/cuda/cached_tile.cuh"

namespace spillway::kernels::cuda {

// The tokens that some rows of one head have between them, each once, and where in shared memory they are to be found.

inline constexpr int kBeamRows = kCachedWarps;
inline constexpr int kBeamThreads = 32 * kCachedWarps;
inline constexpr int kRingChunk = 16;                   // tokens that are copied together
inline constexpr int kRingChunks = kBeamRows + 1;       // a tile's tokens may begin within a chunk
inline constexpr int kRing = kRingChunk * kRingChunks;  // tokens
static_assert(kRing >= kBeamRows * kCachedTile + kRingChunk - 1 && kRing % 8 == 0);

template <typename T>
struct BeamArguments {
  Queries<T> queries;
  SelfKeys<T> keys;
  int most_keys;  // a multiple of kCachedTile
};

/// The dynamic shared memory of a block.
template <typename T, int kSize>
struct BeamMemory {
  T* ring;  // kRing tokens: a key, a value
  std::int32_t*
      tokens;  // in the order of their keys: where in the cache; below 0 the new token of row -1 - token of the block
  std::int32_t* ends;  // of each tile, the tokens before its end
  float* biases;
  std::uint16_t* places[kBeamRows];  // of a row's keys, in the ring

  __device__ BeamMemory(void* memory, int most_keys, int reaches)
      : ring(static_cast<T*>(memory)),
        tokens(reinterpret_cast<std::int32_t*>(ring + kRing * 2 * kSize)),
        ends(tokens + kBeamRows * most_keys),
        biases(reinterpret_cast<float*>(ends + most_keys / kCachedTile)) {
    auto* const first = reinterpret_cast<std::uint16_t*>(biases + reaches);
    for (int b = 0; b < kBeamRows; ++b) places[b] = first + b * most_keys;
  }
  [[nodiscard]] static std::size_t bytes(std::size_t most_keys, std::size_t reaches) {
    return kRing * 2 * kSize * sizeof(T) + most_keys * kBeamRows * (sizeof(std::int32_t) + sizeof(std::uint16_t)) +
           most_keys / kCachedTile * sizeof(std::int32_t) + reaches * sizeof(float);
  }
};

/// Lists the tokens of the block's rows.
template <typename T, int kSize>
__device__ void list_tokens(const BeamArguments<T>& arguments, std::int64_t first_row,
                            const BeamMemory<T, kSize>& memory) {
  __shared__ int warp_counts[2][kCachedWarps];
  const SelfKeys<T>& keys = arguments.keys;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const auto capacity = static_cast<int>(keys.capacity);
  const std::int32_t* ancestry[kBeamRows];
  int rows[kBeamRows];  // those behind the last are the last
#pragma unroll
  for (int b = 0; b < kBeamRows; ++b) {
    rows[b] = static_cast<int>(min(first_row + b, arguments.queries.rows - 1));
    ancestry[b] = keys.ancestry + static_cast<std::int64_t>(rows[b]) * capacity;
  }
  int position = 0, before = 0;
  for (int begin = 0, turn = 0; begin == 0 || begin <= position; begin += kBeamThreads, turn ^= 1) {
    const int key = begin + thread;
    int source[kBeamRows];
#pragma unroll
    for (int b = 0; b < kBeamRows; ++b) source[b] = key < capacity ? ancestry[b][key] : 0;
    position = *keys.position;  // while those are on their way
    int place[kBeamRows], count = 0;
#pragma unroll
    for (int b = 0; b < kBeamRows; ++b) {
      if (key == position) source[b] = rows[b];
      place[b] = count;
      bool known = false;
#pragma unroll
      for (int other = 0; other < b; ++other)
        if (source[other] == source[b]) {
          place[b] = place[other];
          known = true;
        }
      if (!known) ++count;
    }
    if (key > position) count = 0;
    int here = count;  // of this thread's key and those of the warp before
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
      const int other = __shfl_up_sync(0xFFFFFFFFU, here, step);
      if (lane >= step) here += other;
    }
    if (lane == 31) warp_counts[turn][warp] = here;
    __syncthreads();
    here += before;
#pragma unroll
    for (int w = 0; w < kCachedWarps; ++w) {
      if (w < warp) here += warp_counts[turn][w];
      before += warp_counts[turn][w];
    }
    if (key <= position) {
#pragma unroll
      for (int b = 0; b < kBeamRows; ++b) {
        const int at = here - count + place[b];
        memory.tokens[at] = key == position ? static_cast<int>(first_row) - 1 - rows[b] : source[b] * capacity + key;
        memory.places[b][key] = static_cast<std::uint16_t>(at % kRing);
      }
      if (key == position || key % kCachedTile == kCachedTile - 1) memory.ends[key / kCachedTile] = here;
    }
  }
}

}  // namespace spillway::kernels::cuda
