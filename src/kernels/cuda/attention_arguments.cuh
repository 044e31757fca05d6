// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>

#include "kernels/cuda/attention_buckets.hpp"
#include "kernels/cuda/attention_workspace.hpp"
#include "kernels/model_ops.hpp"

namespace spillway::kernels::cuda {

/// An Attention as its kernels get it: T is what is in memory.
template <typename T>
struct AttentionArguments {
  const std::int32_t *query_offsets, *key_offsets;
  const std::int32_t *row_sample, *row_position;  // only with dropout
  const T *q, *k, *v;
  T* out;
  float* log_sum_exp;          // nullptr: not wanted
  const T* table;              // of the bias (buckets, heads); nullptr: none
  BucketStarts starts;         // of all buckets; none: what follows is written instead
  const float* bias;           // (heads, distances)
  const std::int32_t* bucket;  // (distances)
  std::int64_t q_stride, k_stride, v_stride, width;
  std::int64_t distances, zero_distance;  // the place of distance 0
  int sequences, heads, head_size;
  int query_blocks, key_blocks;  // of the longest sequence
  bool causal;
  bool in_pieces;           // rows of all operands lie on 16 bytes and consist of them
  std::uint32_t threshold;  // of dropout; 0: off
  float scale;
  std::uint32_t site;
  std::uint64_t key;
};

/// Likewise an AttentionGradient.
template <typename T>
struct AttentionGradientArguments {
  AttentionArguments<T> forward;
  const T* d_out;
  T *d_q, *d_k, *d_v;
  float* delta;      // out · d_out (query rows, heads), for fp32 arithmetic
  float* d_buckets;  // (sequences, heads, query_blocks, buckets); nullptr: not wanted
  int buckets;
};

template <typename T>
bool in_pieces(std::initializer_list<const std::byte*> tensors, std::initializer_list<std::int64_t> lengths) {
  const auto fits = [](const std::byte* tensor) { return reinterpret_cast<std::uintptr_t>(tensor) % 16 == 0; };
  const auto whole = [](std::int64_t length) { return length % static_cast<std::int64_t>(16 / sizeof(T)) == 0; };
  return std::ranges::all_of(tensors, fits) && std::ranges::all_of(lengths, whole);
}

template <typename T>
AttentionArguments<T> arguments_of(const Attention& op, std::span<std::byte> workspace) {
  const AttentionSizes sizes = sizes_of(op);
  const AttentionLayout layout(sizes);
  const auto ids = [](const ConstTensorView& view) { return reinterpret_cast<const std::int32_t*>(view.data()); };
  const bool dropout = op.dropout.active();
  return {.query_offsets = ids(op.queries.offsets),
          .key_offsets = ids(op.keys.offsets),
          .row_sample = dropout ? ids(op.queries.row_sample) : nullptr,
          .row_position = dropout ? ids(op.queries.row_position) : nullptr,
          .q = reinterpret_cast<const T*>(op.q.data()),
          .k = reinterpret_cast<const T*>(op.k.data()),
          .v = reinterpret_cast<const T*>(op.v.data()),
          .out = reinterpret_cast<T*>(op.out.data()),
          .log_sum_exp = reinterpret_cast<float*>(op.log_sum_exp.data()),
          .table = reinterpret_cast<const T*>(op.bias.table.data()),
          .starts = bucket_starts(op),
          .bias = reinterpret_cast<const float*>(workspace.data() + layout.bias),
          .bucket = reinterpret_cast<const std::int32_t*>(workspace.data() + layout.bucket),
          .q_stride = op.q_stride,
          .k_stride = op.k_stride,
          .v_stride = op.v_stride,
          .width = op.heads * op.head_size,
          .distances = sizes.longest_queries + sizes.longest_keys - 1,
          .zero_distance = sizes.longest_queries - 1,
          .sequences = static_cast<int>(op.queries.count),
          .heads = static_cast<int>(op.heads),
          .head_size = static_cast<int>(op.head_size),
          .query_blocks = static_cast<int>(attention_tiles(sizes.longest_queries)),
          .key_blocks = static_cast<int>(attention_tiles(sizes.longest_keys)),
          .causal = op.causal,
          .in_pieces = in_pieces<T>({op.q.data(), op.k.data(), op.v.data(), op.out.data()},
                                    {op.q_stride, op.k_stride, op.v_stride, op.head_size}),
          .threshold = op.dropout.threshold(),
          .scale = op.dropout.scale(),
          .site = op.dropout.site,
          .key = op.dropout.key};
}

template <typename T>
AttentionGradientArguments<T> arguments_of(const AttentionGradient& op, std::span<std::byte> workspace) {
  const AttentionLayout layout(sizes_of(op.forward));
  AttentionArguments<T> forward = arguments_of<T>(op.forward, workspace);
  forward.in_pieces =
      forward.in_pieces && in_pieces<T>({op.d_out.data(), op.d_q.data(), op.d_k.data(), op.d_v.data()}, {});
  return {.forward = forward,
          .d_out = reinterpret_cast<const T*>(op.d_out.data()),
          .d_q = reinterpret_cast<T*>(op.d_q.data()),
          .d_k = reinterpret_cast<T*>(op.d_k.data()),
          .d_v = reinterpret_cast<T*>(op.d_v.data()),
          .delta = reinterpret_cast<float*>(workspace.data() + layout.delta),
          .d_buckets = op.d_bias ? reinterpret_cast<float*>(workspace.data() + layout.d_buckets) : nullptr,
          .buckets = op.d_bias ? static_cast<int>(op.d_bias.extent(0)) : 0};
}

}  // namespace spillway::kernels::cuda
