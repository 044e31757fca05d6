// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cuda/attention_launch.cuh"
#include "kernels/cuda/cached_keys.cuh"
#include "kernels/cuda/cached_tile.cuh"

namespace spillway::kernels::cuda {

// Self-attention of rows whose histories have tokens in common, as those of an item's beams have. A thread block is for some rows and one
// head, a warp for a row. First it lists the tokens that any of its rows has, each once; these then stream through a ring in shared
// memory, as many of them at a time as the ring holds, while the rows look at them 16 keys at a time. What a row sums, and in which order,
// does not depend on what it shares.

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

/// Begins to copy a chunk of the list into the ring.
template <typename T, int kSize>
__device__ void copy_chunk(const SelfKeys<T>& keys, std::int64_t first_row, std::int64_t column, int chunk, int tokens,
                           const BeamMemory<T, kSize>& memory) {
  constexpr int kPieces = kRowPieces<kSize>, kOfToken = 2 * kPieces;
  const int thread = static_cast<int>(threadIdx.x);
  const int piece = thread % kPieces;
  const bool value = thread % kOfToken >= kPieces;
  const T* const cache = (value ? keys.v : keys.k) + column + 8 * piece;
  const T* const fresh = (value ? keys.new_v : keys.new_k) + column + 8 * piece;
#pragma unroll
  for (int i = 0; i < kRingChunk * kOfToken / kBeamThreads; ++i) {
    const int at = chunk * kRingChunk + thread / kOfToken + i * (kBeamThreads / kOfToken);
    if (at >= tokens) break;
    const std::int32_t token = memory.tokens[at];
    const int row = at % kRing;
    begin_copy(memory.ring + (2 * row + (value ? 1 : 0)) * kSize + 8 * piece_place(row, piece),
               token < 0 ? fresh + (first_row - 1 - token) * keys.stride : cache + token * keys.width, true);
  }
  end_copy_group();
}

/// Waits for the calling thread's groups but for the last `open`, below kRingChunks.
__device__ inline void wait_for_all_but(int open) {
  switch (open) {
    case 0: return wait_for_copies<0>();
    case 1: return wait_for_copies<1>();
    case 2: return wait_for_copies<2>();
    case 3: return wait_for_copies<3>();
    default: return wait_for_copies<4>();
  }
}

template <typename T, int kSize>
__global__ void __launch_bounds__(kBeamThreads, 5) attend_beams(const BeamArguments<T> arguments) {
  constexpr int kStride = 2 * kSize;
  extern __shared__ uint4 beam_memory[];
  const Queries<T>& queries = arguments.queries;
  const SelfKeys<T>& keys = arguments.keys;
  const BeamMemory<T, kSize> memory(beam_memory, arguments.most_keys, keys.reaches);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const int g = lane / 4, c = lane % 4;
  const std::int64_t head = blockIdx.y, first_row = static_cast<std::int64_t>(blockIdx.x) * kBeamRows;
  const std::int64_t row = min(first_row + warp, queries.rows - 1), column = head * kSize;
  list_tokens(arguments, first_row, memory);
  const auto position = static_cast<int>(*keys.position);
  __syncthreads();
  const int tiles = position / kCachedTile + 1, tokens = memory.ends[tiles - 1];
  const int chunks = (tokens + kRingChunk - 1) / kRingChunk;
  int begun = 0;
  // Tokens before `used` are no longer looked at.
  const auto fill_ring = [&](int used) {
    for (; begun < min(chunks, used / kRingChunk + kRingChunks); ++begun)
      copy_chunk(keys, first_row, column, begun, tokens, memory);
  };
  fill_ring(0);
  for (int reach = thread; reach < keys.reaches; reach += kBeamThreads) memory.biases[reach] = keys.bias(head, reach);
  uint4 query[kSize / 32];
#pragma unroll
  for (int p = 0; p < kSize / 32; ++p)
    query[p] = g == 0 ? *reinterpret_cast<const uint4*>(queries.q + row * queries.q_stride + column + 32 * p + 8 * c)
                      : make_uint4(0, 0, 0, 0);
  const std::uint16_t* const places = memory.places[0] + warp * arguments.most_keys;
  WarpSums<T, kSize> found;
  for (int tile = 0, used = 0; tile < tiles; ++tile) {
    const int base = tile * kCachedTile, end = memory.ends[tile];
    const int needed = (end + kRingChunk - 1) / kRingChunk;
    if (begun < needed) {
      __syncthreads();  // all warps are through with the last tile
      fill_ring(used);
    }
    wait_for_all_but(begun - needed);
    __syncthreads();
    fill_ring(used);
    used = end;
    // Behind the last key its own again, with a power of 0.
    const auto place_of = [&](int key) { return static_cast<int>(places[min(base + key, position)]); };
    float products[2][4] = {};
    score_keys<T, kSize>(products, query, memory.ring, kStride, [&](int half) { return place_of(8 * half + g); });
    LaneScores scores;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int key = base + lane_key(c, j);
      scores[j] = key <= position ? products[j / 2][j % 2] : -INFINITY;
      if (keys.reaches > 0 && key <= position) scores[j] += memory.biases[min(position - key, keys.reaches - 1)];
    }
    const Powers powers = found.weigh(scores);
    add_values<T, kSize>(found, powers, memory.ring + kSize, kStride, [&](int j) { return place_of(lane_key(c, j)); });
  }
  found.sum_total();
  const float weight = WarpSums<T, kSize>::of_columns(1.0F / found.total, 0);
  if (first_row + warp >= queries.rows) return;
  if (c == 0) {
    T* const to = queries.out + (row * queries.heads + head) * kSize + 8 * g;
#pragma unroll
    for (int p = 0; p < kSize / 64; ++p) {
      std::uint32_t words[4];
#pragma unroll
      for (int i = 0; i < 4; ++i)
        words[i] = rounded_pair<T>(found.sums[4 * p + i][0] * weight, found.sums[4 * p + i][2] * weight);
      *reinterpret_cast<uint4*>(to + 64 * p) = make_uint4(words[0], words[1], words[2], words[3]);
    }
  }
  // The new token goes to the cache, where no block looks for it in this step.
  constexpr int kPieces = kRowPieces<kSize>;
  const int place = places[position], piece = lane % kPieces;
  const std::int64_t to = (row * keys.capacity + position) * keys.width + column + 8 * piece;
  if (lane < 2 * kPieces)
    *reinterpret_cast<uint4*>((lane < kPieces ? keys.k : keys.v) + to) = *reinterpret_cast<const uint4*>(
        memory.ring + (2 * place + lane / kPieces) * kSize + 8 * piece_place(place, piece));
}

/// Launches it if there is one for this type and head size, the GPU has the instructions, and its memory holds the list;
/// reads_16_bytes() holds for all addresses, the output's too. \returns whether it did
template <typename T>
[[nodiscard]] bool launch_beams(cudaStream_t stream, const Queries<T>& queries, const SelfKeys<T>& keys,
                                const char* op) {
  if constexpr (std::is_same_v<T, float>) {
    return false;
  } else {
    const auto start = [&]<int kSize>() {
      const auto most_keys = static_cast<int>((keys.capacity + kCachedTile - 1) / kCachedTile * kCachedTile);
      const dim3 blocks(static_cast<unsigned>((queries.rows + kBeamRows - 1) / kBeamRows),
                        static_cast<unsigned>(queries.heads));
      const std::size_t bytes =
          BeamMemory<T, kSize>::bytes(static_cast<std::size_t>(most_keys), static_cast<std::size_t>(keys.reaches));
      return launch_on_tensor_cores<&attend_beams<T, kSize>, kFirstWithProducts<T>>(
          stream, op, blocks, kBeamThreads, bytes, BeamArguments<T>{queries, keys, most_keys});
    };
    switch (queries.head_size) {
      case 64: return start.template operator()<64>();
      case 128: return start.template operator()<128>();
      default: return false;
    }
  }
}

}  // namespace spillway::kernels::cuda
