// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>

#include "kernels/cuda/attention_bias.cuh"
#include "kernels/cuda/attention_simt.cuh"

namespace spillway::kernels::cuda {

/// d_q and d_bias. Grid: (sequences · heads · blocks of queries, blocks of columns); the first of the latter sums d_bias.
template <typename T>
__global__ void __launch_bounds__(kSimtThreads)
    attention_d_q_simt(const __grid_constant__ AttentionGradientArguments<T> gradient) {
  __shared__ SimtShared shared;
  __shared__ BucketExtras buckets;
  const AttentionArguments<T>& op = gradient.forward;
  const AttentionPlace at = AttentionPlace::of(op, blockIdx.x, op.query_blocks);
  const int query = at.block * kTile;
  const int begin = static_cast<int>(blockIdx.y) * kTile;
  float* const d_buckets = gradient.d_buckets != nullptr && begin == 0
                               ? gradient.d_buckets + static_cast<std::int64_t>(blockIdx.x) * gradient.buckets
                               : nullptr;
  if (d_buckets != nullptr)
    for (int b = threadIdx.x; b < gradient.buckets; b += kSimtThreads) d_buckets[b] = 0.0F;
  if (query >= at.queries) return;
  const std::int64_t column = static_cast<std::int64_t>(at.head) * op.head_size;
  const auto q = tile_rows<const T>(op.q, op.q_stride, column, at.first_query, query, at.queries);
  const auto d_out = tile_rows<const T>(gradient.d_out, op.width, column, at.first_query, query, at.queries);

  float log_sum_exp[4], delta[4];
  for (int r = 0; r < 4; ++r) {
    const int i = query + simt_row() + r;
    const std::int64_t place = static_cast<std::int64_t>(at.first_query + i) * op.heads + at.head;
    log_sum_exp[r] = i < at.queries ? op.log_sum_exp[place] : INFINITY;  // no query: no probability
    delta[r] = i < at.queries ? gradient.delta[place] : 0.0F;
  }
  SimtTile sums = {};
  const int keys = at.visible(op.causal, min(query + kTile, at.queries) - 1);
  for (int key = 0; key < keys; key += kTile) {
    const auto k = tile_rows<const T>(op.k, op.k_stride, column, at.first_key, key, at.keys);
    load_extras(op, at, query, key, shared.extras);
    SimtTile scores, d_scores;
    scores_of(scores, q, k, op.head_size, shared);
    scores_of(d_scores, d_out, tile_rows<const T>(op.v, op.v_stride, column, at.first_key, key, at.keys), op.head_size,
              shared);
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const int i = simt_row() + r;
      const int visible = at.visible(op.causal, query + i) - key;
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const int j = simt_column() + c;
        const float probability = expf(scores[r][c] + shared.extras.bias_of(i, j) - log_sum_exp[r]);
        const float d_probability = shared.extras.kept(i, j) ? d_scores[r][c] * op.scale : 0.0F;
        d_scores[r][c] = j < visible ? probability * (d_probability - delta[r]) : 0.0F;
      }
    }
    share_transposed(d_scores, shared);
    load_operand(k, begin, op.head_size, shared);
    __syncthreads();
    add_products(sums, shared.scores, shared.operand, kTile);
    if (d_buckets != nullptr)
      add_tile_to_buckets(gradient, query, key, buckets, d_buckets, [&](int i, int j) { return shared.scores[j][i]; });
  }
  store_tile(sums, {1.0F, 1.0F, 1.0F, 1.0F},
             tile_rows<T>(gradient.d_q, op.q_stride, column, at.first_query, query, at.queries), begin, op.head_size);
}

/// d_k and d_v. Grid: (sequences · heads · blocks of keys, blocks of columns). Tiles have keys for rows.
template <typename T>
__global__ void __launch_bounds__(kSimtThreads)
    attention_d_kv_simt(const __grid_constant__ AttentionGradientArguments<T> gradient) {
  __shared__ SimtShared shared;
  __shared__ float log_sum_exp[kTile], delta[kTile];
  const AttentionArguments<T>& op = gradient.forward;
  const AttentionPlace at = AttentionPlace::of(op, blockIdx.x, op.key_blocks);
  const int key = at.block * kTile;
  if (key >= at.keys) return;
  const int begin = static_cast<int>(blockIdx.y) * kTile;
  const std::int64_t column = static_cast<std::int64_t>(at.head) * op.head_size;
  const auto k = tile_rows<const T>(op.k, op.k_stride, column, at.first_key, key, at.keys);
  const auto v = tile_rows<const T>(op.v, op.v_stride, column, at.first_key, key, at.keys);

  SimtTile d_k = {}, d_v = {};
  for (int query = op.causal ? key : 0; query < at.queries; query += kTile) {
    const auto q = tile_rows<const T>(op.q, op.q_stride, column, at.first_query, query, at.queries);
    const auto d_out = tile_rows<const T>(gradient.d_out, op.width, column, at.first_query, query, at.queries);
    load_extras(op, at, query, key, shared.extras);
    for (int i = threadIdx.x; i < kTile; i += kSimtThreads) {
      const std::int64_t place = static_cast<std::int64_t>(at.first_query + query + i) * op.heads + at.head;
      log_sum_exp[i] = i < q.valid ? op.log_sum_exp[place] : INFINITY;
      delta[i] = i < q.valid ? gradient.delta[place] : 0.0F;
    }
    SimtTile scores, d_scores;
    scores_of(scores, k, q, op.head_size, shared);
    scores_of(d_scores, v, d_out, op.head_size, shared);
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const int i = simt_column() + c;
      const int visible = at.visible(op.causal, query + i) - key;
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const int j = simt_row() + r;
        const bool seen = j < visible;
        const bool kept = shared.extras.kept(i, j);
        const float probability = expf(scores[r][c] + shared.extras.bias_of(i, j) - log_sum_exp[i]);
        const float d_probability = kept ? d_scores[r][c] * op.scale : 0.0F;
        scores[r][c] = seen && kept ? probability : 0.0F;
        d_scores[r][c] = seen ? probability * (d_probability - delta[i]) : 0.0F;
      }
    }
    share_transposed(scores, shared);
    load_operand(d_out, begin, op.head_size, shared);
    __syncthreads();
    add_products(d_v, shared.scores, shared.operand, kTile);
    __syncthreads();
    share_transposed(d_scores, shared);
    load_operand(q, begin, op.head_size, shared);
    __syncthreads();
    add_products(d_k, shared.scores, shared.operand, kTile);
  }
  store_tile(d_v, {op.scale, op.scale, op.scale, op.scale},
             tile_rows<T>(gradient.d_v, op.v_stride, column, at.first_key, key, at.keys), begin, op.head_size);
  store_tile(d_k, {1.0F, 1.0F, 1.0F, 1.0F}, tile_rows<T>(gradient.d_k, op.k_stride, column, at.first_key, key, at.keys),
             begin, op.head_size);
}

}  // namespace spillway::kernels::cuda
