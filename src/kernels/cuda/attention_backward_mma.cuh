// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>

#include "kernels/cuda/attention_bias.cuh"
#include "kernels/cuda/attention_copies.cuh"

namespace spillway::kernels::cuda {

/// What both kernels of the backward pass have in (dynamic) shared memory.
template <typename T, int D>
struct GradientTiles {
  OperandTile<T, D> q, d_out, k, v;
  TileExtras extras;
};
template <typename T, int D>
struct KeyGradientTiles : GradientTiles<T, D> {
  float log_sum_exp[kTile], delta[kTile];
};
template <typename T, int D>
struct QueryGradientTiles : GradientTiles<T, D> {
  BucketExtras buckets;
  float d_scores[kTile][kTile + 1];  // last: only there for d_bias
};

/// Bytes of QueryGradientTiles without what only d_bias needs.
template <typename T, int D>
constexpr std::size_t query_tiles_bytes(bool bias) {
  return sizeof(QueryGradientTiles<T, D>) - (bias ? 0 : sizeof(float) * kTile * (kTile + 1));
}

/// d_q and d_bias of heads of up to D columns. Grid: sequences · heads · blocks of queries.
template <typename T, int D>
__global__ void __launch_bounds__(kMmaThreads)
    attention_d_q_mma(const __grid_constant__ AttentionGradientArguments<T> gradient) {
  extern __shared__ uint4 memory[];
  auto& shared = *reinterpret_cast<QueryGradientTiles<T, D>*>(memory);
  const AttentionArguments<T>& op = gradient.forward;
  const AttentionPlace at = AttentionPlace::of(op, blockIdx.x, op.query_blocks);
  const int query = at.block * kTile;
  float* const d_buckets = gradient.d_buckets != nullptr
                               ? gradient.d_buckets + static_cast<std::int64_t>(blockIdx.x) * gradient.buckets
                               : nullptr;
  if (d_buckets != nullptr)
    for (int b = threadIdx.x; b < gradient.buckets; b += kMmaThreads) d_buckets[b] = 0.0F;
  if (query >= at.queries) return;
  const std::int64_t column = static_cast<std::int64_t>(at.head) * op.head_size;
  const int row = static_cast<int>(threadIdx.x) / 32 * 16;
  const int lane = static_cast<int>(threadIdx.x % 32);

  load_tile<kMmaThreads>(tile_rows(op.q, op.q_stride, column, at.first_query, query, at.queries), op.head_size,
                         shared.q);
  load_tile<kMmaThreads>(tile_rows(gradient.d_out, op.width, column, at.first_query, query, at.queries), op.head_size,
                         shared.d_out);
  float log_sum_exp[2], delta[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int i = query + row + lane / 4 + 8 * half;
    const std::int64_t place = static_cast<std::int64_t>(at.first_query + i) * op.heads + at.head;
    log_sum_exp[half] = i < at.queries ? op.log_sum_exp[place] : INFINITY;  // no query: no probability
    delta[half] = i < at.queries ? gradient.delta[place] : 0.0F;
  }
  float sums[D / 8][4] = {};
  const int keys = at.visible(op.causal, min(query + kTile, at.queries) - 1);
  for (int key = 0; key < keys; key += kTile) {
    __syncthreads();
    load_tile<kMmaThreads>(tile_rows(op.k, op.k_stride, column, at.first_key, key, at.keys), op.head_size, shared.k);
    load_tile<kMmaThreads>(tile_rows(op.v, op.v_stride, column, at.first_key, key, at.keys), op.head_size, shared.v);
    end_copy_group();
    load_extras(op, at, query, key, shared.extras);
    wait_for_copies<0>();
    __syncthreads();
    float scores[kTile / 8][4], d_scores[kTile / 8][4];
    mma_scores(scores, shared.q, row, shared.k);
    mma_scores(d_scores, shared.d_out, row, shared.v);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int i = row + lane / 4 + 8 * half;
      const int visible = at.visible(op.causal, query + i) - key;
      const std::uint64_t keep = *reinterpret_cast<const std::uint64_t*>(&shared.extras.keep[i * 8]) >> (lane % 4 * 2);
#pragma unroll
      for (int n = 0; n < kTile / 8; ++n) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int j = 8 * n + lane % 4 * 2 + e;
          float& d_score = d_scores[n][2 * half + e];
          const float probability = __expf(scores[n][2 * half + e] + shared.extras.bias_of(i, j) - log_sum_exp[half]);
          const float d_probability = (keep >> (8 * n + e) & 1) != 0 ? d_score * op.scale : 0.0F;
          d_score = j < visible ? probability * (d_probability - delta[half]) : 0.0F;
          if (d_buckets != nullptr) shared.d_scores[i][j] = d_score;
        }
      }
    }
    mma_add(sums, d_scores, shared.k);
    if (d_buckets != nullptr) {
      __syncthreads();
      add_tile_to_buckets(gradient, query, key, shared.buckets, d_buckets,
                          [&](int i, int j) { return shared.d_scores[i][j]; });
    }
  }
  __syncthreads();
  store_sums<T>(sums, 1.0F, 1.0F, shared.q, row, 0,
                tile_rows(gradient.d_q, op.q_stride, column, at.first_query, query, at.queries), op.head_size);
}

/// d_k and d_v of heads of up to D columns. Grid: sequences · heads · blocks of keys. Tiles have keys for rows, so that the
/// probabilities of a tile are the left operand of d_v as they are.
template <typename T, int D>
__global__ void __launch_bounds__(kMmaThreads)
    attention_d_kv_mma(const __grid_constant__ AttentionGradientArguments<T> gradient) {
  extern __shared__ uint4 memory[];
  auto& shared = *reinterpret_cast<KeyGradientTiles<T, D>*>(memory);
  const AttentionArguments<T>& op = gradient.forward;
  const AttentionPlace at = AttentionPlace::of(op, blockIdx.x, op.key_blocks);
  const int key = at.block * kTile;
  if (key >= at.keys) return;
  const std::int64_t column = static_cast<std::int64_t>(at.head) * op.head_size;
  const int row = static_cast<int>(threadIdx.x) / 32 * 16;
  const int lane = static_cast<int>(threadIdx.x % 32);

  load_tile<kMmaThreads>(tile_rows(op.k, op.k_stride, column, at.first_key, key, at.keys), op.head_size, shared.k);
  load_tile<kMmaThreads>(tile_rows(op.v, op.v_stride, column, at.first_key, key, at.keys), op.head_size, shared.v);
  float d_k[D / 8][4] = {}, d_v[D / 8][4] = {};
  for (int query = op.causal ? key : 0; query < at.queries; query += kTile) {
    __syncthreads();
    const auto q = tile_rows(op.q, op.q_stride, column, at.first_query, query, at.queries);
    load_tile<kMmaThreads>(q, op.head_size, shared.q);
    load_tile<kMmaThreads>(tile_rows(gradient.d_out, op.width, column, at.first_query, query, at.queries), op.head_size,
                           shared.d_out);
    end_copy_group();
    load_extras(op, at, query, key, shared.extras);
    for (int i = threadIdx.x; i < kTile; i += kMmaThreads) {
      const std::int64_t place = static_cast<std::int64_t>(at.first_query + query + i) * op.heads + at.head;
      shared.log_sum_exp[i] = i < q.valid ? op.log_sum_exp[place] : INFINITY;
      shared.delta[i] = i < q.valid ? gradient.delta[place] : 0.0F;
    }
    wait_for_copies<0>();
    __syncthreads();
    float scores[kTile / 8][4], d_scores[kTile / 8][4];
    mma_scores(scores, shared.k, row, shared.q);
    mma_scores(d_scores, shared.v, row, shared.d_out);
#pragma unroll
    for (int n = 0; n < kTile / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int i = 8 * n + lane % 4 * 2 + e % 2;
        const int j = row + lane / 4 + e / 2 * 8;
        const bool seen = j < at.visible(op.causal, query + i) - key;
        const bool kept = shared.extras.kept(i, j);
        const float probability = __expf(scores[n][e] + shared.extras.bias_of(i, j) - shared.log_sum_exp[i]);
        const float d_probability = kept ? d_scores[n][e] * op.scale : 0.0F;
        scores[n][e] = seen && kept ? probability : 0.0F;
        d_scores[n][e] = seen ? probability * (d_probability - shared.delta[i]) : 0.0F;
      }
    }
    mma_add(d_v, scores, shared.d_out);
    mma_add(d_k, d_scores, shared.q);
  }
  __syncthreads();
  store_sums<T>(d_v, op.scale, op.scale, shared.v, row, 0,
                tile_rows(gradient.d_v, op.v_stride, column, at.first_key, key, at.keys), op.head_size);
  store_sums<T>(d_k, 1.0F, 1.0F, shared.k, row, 0,
                tile_rows(gradient.d_k, op.k_stride, column, at.first_key, key, at.keys), op.head_size);
}

}  // namespace spillway::kernels::cuda
