// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/cached_attention.hpp"

#include <algorithm>
#include <utility>

#include "kernels/cpu/attention_workspace.hpp"
#include "kernels/cpu/distance_bias.hpp"
#include "kernels/cpu/instruction_set.hpp"
#include "kernels/cpu/position.hpp"
#include "kernels/cpu/rows.hpp"
#include "kernels/cpu/small_tasks.hpp"
#include "kernels/cpu/softmax.hpp"

namespace spillway::kernels::cpu {
namespace {

constexpr std::int64_t kTogether = 4;  // sums of kLanes columns that are made in one walk over the keys

/// One query of one head.
template <typename T>
struct CachedQuery {
  const T* query;
  T* out;
  std::int64_t keys;
  std::int64_t head_size;
  float* scores;      // scratch, padded(keys)
  const float* bias;  // padded(keys), or nullptr
};

/// \param key, value  from a key's number to its first element
template <typename T, typename Key, typename Value>
[[gnu::always_inline]] inline void attend(const CachedQuery<T>& one, const Key& key, const Value& value) {
  for (std::int64_t j = 0; j < one.keys; ++j) one.scores[j] = dot(one.query, key(j), one.head_size);
  softmax_row({.scores = one.scores, .bias = one.bias, .visible = one.keys, .columns = one.keys});
  std::int64_t column = 0;
  for (; column + kTogether * kLanes <= one.head_size; column += kTogether * kLanes) {
    Lanes sums[kTogether] = {};
    for (std::int64_t j = 0; j < one.keys; ++j) {
      const T* const from = value(j) + column;
      const float score = one.scores[j];
#pragma GCC unroll 4
      for (std::int64_t i = 0; i < kTogether; ++i) sums[i] += load(from + i * kLanes) * score;
    }
    for (std::int64_t i = 0; i < kTogether; ++i) store(one.out + column + i * kLanes, sums[i]);
  }
  for (; column + kLanes <= one.head_size; column += kLanes) {
    Lanes sum{};
    for (std::int64_t j = 0; j < one.keys; ++j) sum += load(value(j) + column) * one.scores[j];
    store(one.out + column, sum);
  }
  if (column == one.head_size) return;
  const std::int64_t left = one.head_size - column;
  Lanes sum{};
  for (std::int64_t j = 0; j < one.keys; ++j) sum += load(value(j) + column, left) * one.scores[j];
  store(one.out + column, sum, left);
}

/// Writes k and v of the token at `position` of every row into the caches.
void append(const CachedSelfAttention& op, std::int64_t position) {
  const auto element = static_cast<std::int64_t>(size_of(op.q.dtype()));
  const std::int64_t bytes = op.heads * op.head_size * element;
  for (const auto& [token, cache] : {std::pair{op.k, op.cache_k}, std::pair{op.v, op.cache_v}})
    for (std::int64_t row = 0; row < op.rows; ++row)
      std::copy_n(token.data() + row * op.stride * element, bytes,
                  cache.data() + (row * op.capacity + position) * bytes);
}

template <typename T>
void self_attention(ThreadPool& pool, const CachedSelfAttention& op) {
  const std::int64_t width = op.heads * op.head_size;
  const std::int64_t position = position_of(op.position, op.capacity, "cached_self_attention");
  const std::int64_t keys = position + 1;
  append(op, position);
  const DistanceBias bias(op.bias, -position, 0);
  T* const out = elements<T>(op.out);
  parallel_for_small(pool, op.rows * op.heads, 2 * keys * op.head_size, [&](std::int64_t task) {
    const std::int64_t row = task / op.heads;
    const std::int64_t head = task % op.heads;
    const std::int32_t* const ancestry = op.ancestry.as<std::int32_t>().data() + row * op.capacity;
    const std::span<float> scratch = attention_scratch(cached_scratch_floats(keys));
    float* const by_distance = scratch.data() + padded(keys);
    if (bias) bias.read(head, -position, {by_distance, static_cast<std::size_t>(keys)});

    const CachedQuery<T> one{.query = elements<T>(op.q) + row * op.stride + head * op.head_size,
                             .out = out + row * width + head * op.head_size,
                             .keys = keys,
                             .head_size = op.head_size,
                             .scores = scratch.data(),
                             .bias = bias ? by_distance : nullptr};
    run_vectorised([&] [[gnu::always_inline]] {
      const auto place = [&](std::int64_t j) __attribute__((always_inline)) {
        const std::int64_t cache_row = j == position ? row : ancestry[j];
        return (cache_row * op.capacity + j) * width + head * op.head_size;
      };
      const T* const k = elements<T>(ConstTensorView(op.cache_k));
      const T* const v = elements<T>(ConstTensorView(op.cache_v));
      attend(
          one, [&](std::int64_t j) __attribute__((always_inline)) { return k + place(j); },
          [&](std::int64_t j) __attribute__((always_inline)) { return v + place(j); });
    });
  });
}

template <typename T>
void cross_attention(ThreadPool& pool, const CachedCrossAttention& op) {
  const std::int64_t width = op.heads * op.head_size;
  const std::span<const std::int32_t> offsets = op.keys.offsets.as<std::int32_t>();
  const std::span<const std::int32_t> row_sequence = op.row_sequence.as<std::int32_t>();
  const T* const q = elements<T>(op.q);
  T* const out = elements<T>(op.out);
  parallel_for_small(pool, op.rows * op.heads, 2 * op.keys.longest * op.head_size, [&](std::int64_t task) {
    const std::int64_t row = task / op.heads;
    const std::int64_t column = task % op.heads * op.head_size;
    const auto sequence = static_cast<std::size_t>(row_sequence[static_cast<std::size_t>(row)]);
    const std::int64_t first = offsets[sequence];
    const std::int64_t keys = offsets[sequence + 1] - first;
    const CachedQuery<T> one{.query = q + row * width + column,
                             .out = out + row * width + column,
                             .keys = keys,
                             .head_size = op.head_size,
                             .scores = attention_scratch(cached_scratch_floats(op.keys.longest)).data(),
                             .bias = nullptr};
    run_vectorised([&] [[gnu::always_inline]] {
      const T* const k = elements<T>(op.k) + first * op.k_stride + column;
      const T* const v = elements<T>(op.v) + first * op.v_stride + column;
      attend(
          one, [&](std::int64_t j) __attribute__((always_inline)) { return k + j * op.k_stride; },
          [&](std::int64_t j) __attribute__((always_inline)) { return v + j * op.v_stride; });
    });
  });
}

}  // namespace

void cached_self_attention(ThreadPool& pool, const CachedSelfAttention& op) {
  visit_storage(op.q.dtype(), [&]<typename T>(std::type_identity<T>) { self_attention<T>(pool, op); });
}

void cached_cross_attention(ThreadPool& pool, const CachedCrossAttention& op) {
  visit_storage(op.q.dtype(), [&]<typename T>(std::type_identity<T>) { cross_attention<T>(pool, op); });
}

}  // namespace spillway::kernels::cpu
