// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>

#include "kernels/cuda/cached_attention.hpp"
#include "kernels/cuda/storage.cuh"

namespace spillway::kernels::cuda {

/// Buckets of the distances 0, -1, ...: reach r is in the last bucket whose `starts` is at most r. Made on the host, where the
/// logarithm of the bucket formula is that of the CPU form.
struct ReachBuckets {
  std::int32_t count = 0;  // 0: no bias
  std::array<std::int32_t, kCachedBuckets> starts;

  [[nodiscard]] __device__ std::int32_t of(std::int32_t reach) const {
    std::int32_t low = 0, high = count;  // the answer is in [low, high)
    while (high - low > 1) {
      const std::int32_t middle = (low + high) / 2;
      if (starts[static_cast<std::size_t>(middle)] <= reach) low = middle;
      else high = middle;
    }
    return low;
  }
};

/// The keys of a row's self-attention. A key's source is the cache row that it lies in.
template <typename T>
struct SelfRow {
  const std::int32_t* ancestry;  // of the row
  const T *new_k, *new_v;        // likewise
  std::int64_t row, position, capacity, width;

  [[nodiscard]] __device__ std::int64_t count() const { return position + 1; }
  [[nodiscard]] __device__ std::int64_t source(std::int64_t key) const {
    return key == position ? row : static_cast<std::int64_t>(ancestry[key]);
  }
  /// As source, of any key before `position`, without waiting for that.
  [[nodiscard]] __device__ std::int32_t ancestor(std::int32_t key) const {
    return key < static_cast<std::int32_t>(capacity) ? ancestry[key] : 0;
  }
  [[nodiscard]] __device__ std::int64_t k_place(std::int64_t source, std::int64_t key) const {
    return (source * capacity + key) * width;
  }
  [[nodiscard]] __device__ std::int64_t v_place(std::int64_t source, std::int64_t key) const {
    return k_place(source, key);
  }
  /// Where they are in this very step, in which the new token's may not have reached the cache yet. No cache has 2^31 tokens, and
  /// addresses from 32-bit numbers take a third of the instructions.
  [[nodiscard]] __device__ const T* k_now(const T* cache, std::int32_t source, std::int32_t key) const {
    return key == static_cast<std::int32_t>(position) ? new_k : cache + offset(source, key);
  }
  [[nodiscard]] __device__ const T* v_now(const T* cache, std::int32_t source, std::int32_t key) const {
    return key == static_cast<std::int32_t>(position) ? new_v : cache + offset(source, key);
  }
  [[nodiscard]] __device__ std::int64_t offset(std::int32_t source, std::int32_t key) const {
    return static_cast<std::int64_t>(source * static_cast<std::int32_t>(capacity) + key) *
           static_cast<std::int32_t>(width);
  }
};

/// Where the keys of self-attention lie, and what is added to their scores.
template <typename T>
struct SelfKeys {
  T *k, *v;
  const T *new_k, *new_v, *table;
  const std::int32_t *ancestry, *position;
  std::int64_t stride, capacity, width, heads;
  std::int32_t reaches;  // from which on the bias is that of the last
  ReachBuckets buckets;

  [[nodiscard]] __device__ SelfRow<T> of(std::int64_t row) const {
    return {.ancestry = ancestry + row * capacity,
            .new_k = new_k + row * stride,
            .new_v = new_v + row * stride,
            .row = row,
            .position = *position,
            .capacity = capacity,
            .width = width};
  }
  [[nodiscard]] __device__ bool same(std::int64_t /*row*/, std::int64_t /*other*/) const { return false; }
  /// Writes the new token's k and v of one head to the cache, by all threads of a block: no other block reads them in this step.
  __device__ void append(std::int64_t row, std::int64_t head, int head_size, int thread, int threads) const {
    const std::int64_t from = row * stride + head * head_size;
    const std::int64_t to = (row * capacity + *position) * width + head * head_size;
    for (int c = thread; c < head_size; c += threads) {
      k[to + c] = new_k[from + c];
      v[to + c] = new_v[from + c];
    }
  }
  [[nodiscard]] __device__ float bias(std::int64_t head, std::int64_t reach) const {
    if (table == nullptr) return 0.0F;
    return widen(table[buckets.of(static_cast<std::int32_t>(reach)) * heads + head]);
  }
};

template <typename T>
struct CrossRow {
  std::int64_t first, keys, k_stride, v_stride;

  [[nodiscard]] __device__ std::int64_t count() const { return keys; }
  [[nodiscard]] __device__ std::int64_t source(std::int64_t /*key*/) const { return first; }
  [[nodiscard]] __device__ std::int32_t ancestor(std::int32_t /*key*/) const {
    return static_cast<std::int32_t>(first);
  }
  [[nodiscard]] __device__ std::int64_t k_place(std::int64_t source, std::int64_t key) const {
    return (source + key) * k_stride;
  }
  [[nodiscard]] __device__ std::int64_t v_place(std::int64_t source, std::int64_t key) const {
    return (source + key) * v_stride;
  }
  [[nodiscard]] __device__ const T* k_now(const T* keys_begin, std::int32_t source, std::int32_t key) const {
    return keys_begin + static_cast<std::int64_t>(source + key) * static_cast<std::int32_t>(k_stride);
  }
  [[nodiscard]] __device__ const T* v_now(const T* values_begin, std::int32_t source, std::int32_t key) const {
    return values_begin + static_cast<std::int64_t>(source + key) * static_cast<std::int32_t>(v_stride);
  }
};

/// Where the keys of cross-attention lie; nothing is added to their scores.
template <typename T>
struct CrossKeys {
  const T *k, *v;
  const std::int32_t *offsets, *row_sequence;
  std::int64_t k_stride, v_stride;
  static constexpr std::int32_t reaches = 0;

  [[nodiscard]] __device__ CrossRow<T> of(std::int64_t row) const {
    const std::int32_t sequence = row_sequence[row];
    const std::int64_t first = offsets[sequence];
    return {first, offsets[sequence + 1] - first, k_stride, v_stride};
  }
  __device__ void append(std::int64_t /*row*/, std::int64_t /*head*/, int /*head_size*/, int /*thread*/,
                         int /*threads*/) const {}
  /// Whether two rows have the same keys.
  [[nodiscard]] __device__ bool same(std::int64_t row, std::int64_t other) const {
    return row_sequence[row] == row_sequence[other];
  }
  [[nodiscard]] __device__ float bias(std::int64_t /*head*/, std::int64_t /*reach*/) const { return 0.0F; }
};

template <typename T>
struct Queries {
  const T* q;
  T* out;
  std::int64_t rows, q_stride, heads, head_size;
};

}  // namespace spillway::kernels::cuda
