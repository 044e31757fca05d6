// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/cuda/attention_arguments.cuh"
#include "kernels/cuda/philox.cuh"
#include "kernels/cuda/storage.cuh"

namespace spillway::kernels::cuda {

inline constexpr int kTile = kAttentionTile;
inline constexpr int kTileShift = 6;               // bit of a row's number: whether its tile is an odd one
inline constexpr int kPairShift = kTileShift + 1;  // likewise its pair of tiles
static_assert(kTile == 1 << kTileShift);

/// One head of one sequence, and which block of its rows a CTA works on.
struct AttentionPlace {
  int sequence, head, block;
  int first_query, queries;
  int first_key, keys;

  /// Its number among sequences · heads · `blocks`.
  template <typename T>
  [[nodiscard]] __device__ std::int64_t number(const AttentionArguments<T>& op, int blocks) const {
    return (static_cast<std::int64_t>(sequence) * op.heads + head) * blocks + block;
  }
  /// CTA `index` of sequences · heads · blocks.
  template <typename T>
  __device__ static AttentionPlace of(const AttentionArguments<T>& op, unsigned index, int blocks) {
    return of(op, dim3(index % blocks, index / blocks % op.heads, index / blocks / op.heads));
  }
  /// CTA of a grid of blocks, heads and sequences.
  template <typename T>
  __device__ static AttentionPlace of(const AttentionArguments<T>& op, const dim3& index) {
    AttentionPlace at;
    at.block = static_cast<int>(index.x);
    at.head = static_cast<int>(index.y);
    at.sequence = static_cast<int>(index.z);
    at.first_query = op.query_offsets[at.sequence];
    at.queries = op.query_offsets[at.sequence + 1] - at.first_query;
    at.first_key = op.key_offsets[at.sequence];
    at.keys = op.key_offsets[at.sequence + 1] - at.first_key;
    return at;
  }
  /// Keys that query `query` sees.
  __device__ int visible(bool causal, int query) const { return causal ? min(query + 1, keys) : keys; }
};

/// Rows of a tile: `valid` of them are there, the others count as zeros.
template <typename T>
struct TileRows {
  T* first;
  int stride;
  int valid;
};

/// The head's columns of a tensor's rows [begin, begin + kTile) of a sequence that has `count` from row `first` on.
template <typename T>
__device__ TileRows<T> tile_rows(T* tensor, std::int64_t stride, std::int64_t column, int first, int begin, int count) {
  return {tensor + static_cast<std::int64_t>(first + begin) * stride + column, static_cast<int>(stride), count - begin};
}

/// The bucket of a distance of key from query, of those that `starts` tell and the ones after them; -1 if it is in one before.
__device__ inline int find_bucket(const BucketStarts& starts, int distance) {
  const int reach = starts.bidirectional ? abs(distance) : max(-distance, 0);
  if (reach < starts.reach[0]) return -1;
  int found = 0;
#pragma unroll
  for (int step = BucketStarts::kMost / 2; step > 0; step /= 2)
    if (reach >= starts.reach[found + step]) found += step;
  return starts.first + found + (starts.bidirectional && distance > 0 ? starts.one_side : 0);
}

/// The bucket of a distance between a query and a key of some sequence; anything for another.
template <typename T>
__device__ int bucket_of(const AttentionArguments<T>& op, int distance) {
  if (op.starts.count > 0) return find_bucket(op.starts, distance);
  const std::int64_t place = op.zero_distance + distance;
  return place >= 0 && place < op.distances ? op.bucket[place] : -1;
}

/// The bias of a head at such a distance; 0 without a bias.
template <typename T>
__device__ float bias_of(const AttentionArguments<T>& op, int head, int distance) {
  if (op.table == nullptr) return 0.0F;
  if (op.starts.count > 0)
    return widen(op.table[static_cast<std::int64_t>(find_bucket(op.starts, distance)) * op.heads + head]);
  const std::int64_t place = op.zero_distance + distance;
  return place >= 0 && place < op.distances ? op.bias[head * op.distances + place] : 0.0F;
}

/// What a tile of scores needs besides its operands, in shared memory.
struct TileExtras {
  alignas(8) std::uint8_t keep[kTile * 8];  // of query i and keys 8 g to 8 g + 7, a bit each, at i * 8 + g
  float bias[2 * kTile];                    // of distance t - (kTile - 1) from the tile's own

  /// The bias of local query `i` and key `j`.
  __device__ float bias_of(int i, int j) const { return bias[j - i + kTile - 1]; }
  __device__ bool kept(int i, int j) const { return (keep[i * 8 + j / 8] >> (j % 8) & 1) != 0; }
};

/// Where in the dropout's stream a query is.
struct QueryDraws {
  std::uint32_t first;  // the draw of its keys 0 to 7
  std::uint32_t sample;
};

template <typename T>
__device__ QueryDraws draws_of(const AttentionArguments<T>& op, const AttentionPlace& at, int query) {
  if (op.threshold == 0 || query >= at.queries) return {0, 0};
  const int row = at.first_query + query;
  return {static_cast<std::uint32_t>(op.row_position[row]) * ((static_cast<std::uint32_t>(at.keys) + 7) / 8),
          static_cast<std::uint32_t>(op.row_sample[row])};
}

/// Which of keys 8 group to 8 group + 7 of a query are kept, a bit each.
template <typename T>
__device__ std::uint32_t draw_bits(const AttentionArguments<T>& op, const QueryDraws& query, int head, int group) {
  const uint4 draws = philox(op.key, uint4{query.first + static_cast<std::uint32_t>(group), query.sample, op.site,
                                           static_cast<std::uint32_t>(head)});
  const std::uint32_t words[4] = {draws.x, draws.y, draws.z, draws.w};
  // A 16-bit lane in the upper half of a word needs no mask to be compared: what is below it changes nothing.
  const std::uint32_t limit = op.threshold << 16;
  std::uint32_t bits = 0;
#pragma unroll
  for (int pair = 0; pair < 4; ++pair) {
    if ((words[pair] << 16) >= limit) bits |= 1U << (2 * pair);
    if (words[pair] >= limit) bits |= 2U << (2 * pair);
  }
  return bits;
}

/// Fills `extras` for queries from `query` and keys from `key` on, both local and multiples of kTile. All threads of the CTA take
/// part; they must meet before it is read.
template <typename T>
__device__ void load_extras(const AttentionArguments<T>& op, const AttentionPlace& at, int query, int key,
                            TileExtras& extras) {
  for (int t = threadIdx.x; t < 2 * kTile - 1; t += blockDim.x)
    extras.bias[t] = bias_of(op, at.head, key - query + t - (kTile - 1));
  for (int t = threadIdx.x; t < kTile * 8; t += blockDim.x) {
    const int i = query + t / 8;
    const int j = key + t % 8 * 8;
    const bool drawn = op.threshold > 0 && i < at.queries && j < at.visible(op.causal, i);
    extras.keep[t] = static_cast<std::uint8_t>(drawn ? draw_bits(op, draws_of(op, at, i), at.head, j / 8) : 0xFFU);
  }
}

}  // namespace spillway::kernels::cuda
