// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cuda/attention_bias.cuh"
#include "kernels/cuda/attention_row_facts.cuh"

namespace spillway::kernels::cuda {

/// What a thread block has in shared memory.
template <typename T, int D>
struct QueryTiles {
  OperandTile<T, D> k[2], v[2];  // two tiles at a time; k[1] has d_out first, v[1] the queries
  DistanceWindow<2 * kTile> bias[2];
  RowFacts rows;
  DiagonalSums::Exchange exchange[kMmaThreads / 32];
  float diagonals[kMmaThreads / 32][kTile + 32];
  BucketExtras buckets;
};

/// d_buckets += the diagonals' sums by bucket, after a tile of keys. All threads take part, and meet on the way; they must meet before
/// `shared` changes.
template <typename T, int D>
__device__ void add_diagonals(const AttentionGradientArguments<T>& gradient, int query, int key,
                              QueryTiles<T, D>& shared, float* d_buckets) {
  constexpr int kDistances = 2 * kTile;
  for (int t = threadIdx.x; t < kDistances; t += kMmaThreads) {
    const int ahead = t - kTile;  // local key - local query
    float sum = 0.0F;
    for (int warp = 0; warp < kMmaThreads / 32; ++warp) {
      const int z = ahead + 16 + 16 * warp;
      if (z >= 0 && z < kTile + 16) sum += shared.diagonals[warp][z];
    }
    shared.buckets.diagonal[t] = sum;
    shared.buckets.bucket[t] = bucket_of(gradient.forward, key - query + ahead);
  }
  __syncthreads();
  sum_by_bucket(shared.buckets.diagonal, shared.buckets.bucket, kDistances, gradient.buckets,
                [&](int b, float sum) { d_buckets[b] += sum; });
}

/// The gradients of a warp's scores of 16 queries and 32 keys from q·k and d_out·v. Pairs not visible: 0.
struct QueryRows {
  float log_sum_exp[2], delta[2];  // of rows g and g + 8
  int visible[2];                  // keys from the fragments' first on

  /// \param bits   of the rows' kept keys
  /// \param pairs  the bias of the thread's first element; those of rows g + 8 are 8 before
  template <typename T>
  __device__ void differentiate(const AttentionArguments<T>& op, const std::uint32_t (&bits)[2], const float* pairs,
                                const float (&scores)[4][4], float (&d_scores)[4][4]) const {
    const int column = static_cast<int>(threadIdx.x % 4) * 2;
    float2 upper = op.table != nullptr ? pair_at(pairs, -1) : float2{0.0F, 0.0F};
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      const float2 lower = op.table != nullptr ? pair_at(pairs, n) : float2{0.0F, 0.0F};
      const float exponents[4] = {lower.x, lower.y, upper.x, upper.y};
      upper = lower;
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int half = e / 2;
        const float exponent = __fmaf_rn(scores[n][e], kLog2OfE, exponents[e]) - log_sum_exp[half];
        const bool stays = (bits[half] >> (8 * n + column + e % 2) & 1) != 0;
        const float d_probability = stays ? __fmaf_rn(d_scores[n][e], op.scale, -delta[half]) : -delta[half];
        d_scores[n][e] = 8 * n + column + e % 2 < visible[half] ? power_of_2(exponent) * d_probability : 0.0F;
      }
    }
  }
};

/// d_q and d_bias of heads of up to D columns. Grid: blocks of queries, heads, sequences. Shared memory: QueryTiles.
template <typename T, int D>
__global__ void __launch_bounds__(kMmaThreads, D == 64 ? 3 : 2)
    attention_d_q_mma(const __grid_constant__ AttentionGradientArguments<T> gradient) {
  extern __shared__ uint4 memory[];
  auto& shared = *reinterpret_cast<QueryTiles<T, D>*>(memory);
  const AttentionArguments<T>& op = gradient.forward;
  const AttentionPlace at = AttentionPlace::of(op, blockIdx);
  const int query = at.block * kTile;
  float* const d_buckets =
      gradient.d_buckets != nullptr ? gradient.d_buckets + at.number(op, op.query_blocks) * gradient.buckets : nullptr;
  if (d_buckets != nullptr)
    for (int b = threadIdx.x; b < gradient.buckets; b += kMmaThreads) d_buckets[b] = 0.0F;
  if (query >= at.queries) return;
  const std::int64_t column = static_cast<std::int64_t>(at.head) * op.head_size;
  const int warp = static_cast<int>(threadIdx.x / 32);
  const int row = 16 * warp;
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int keys = at.visible(op.causal, min(query + kTile, at.queries) - 1);
  const int last_keys = at.visible(op.causal, query + row + 15);

  const auto load = [&](int key, int stage) {
    if (key < keys) {
      load_tile<kMmaThreads>(tile_rows(op.k, op.k_stride, column, at.first_key, key, at.keys), op, shared.k[stage]);
      load_tile<kMmaThreads>(tile_rows(op.v, op.v_stride, column, at.first_key, key, at.keys), op, shared.v[stage]);
    }
    end_copy_group();
  };
  load_tile<kMmaThreads>(tile_rows(op.q, op.q_stride, column, at.first_query, query, at.queries), op, shared.v[1]);
  load_tile<kMmaThreads>(tile_rows(gradient.d_out, op.width, column, at.first_query, query, at.queries), op,
                         shared.k[1]);
  load(0, 0);
  load_row_facts<kMmaThreads, D>(gradient, at, query, shared.rows);
  wait_for_copies<0>();
  __syncthreads();
  LeftOperand q[D / 16], d_out[D / 16];
#pragma unroll
  for (int step = 0; step < D / 16; ++step) {
    q[step] = left_operand(shared.v[1], row, 16 * step);
    d_out[step] = left_operand(shared.k[1], row, 16 * step);
  }
  QueryRows rows;
  QueryDraws draws[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int i = row + lane / 4 + 8 * half;
    rows.log_sum_exp[half] = shared.rows.log_sum_exp[i];
    rows.delta[half] = shared.rows.delta[i];
    draws[half] = shared.rows.draws[i];
  }
  __syncthreads();
  load(kTile, 1);

  float sums[D / 8][4] = {};
  for (int key = 0; key < keys; key += kTile) {
    const int stage = key >> kTileShift & 1;
    if (op.table != nullptr) {
      for (int t = threadIdx.x; t < 2 * kTile - 1; t += kMmaThreads)
        shared.bias[stage].set(t, bias_of(op, at.head, key - query + t - (kTile - 1)) * kLog2OfE);
    }
    KeptKeys kept{{{0xFFFFFFFFU, 0xFFFFFFFFU}, {0xFFFFFFFFU, 0xFFFFFFFFU}}};
    if (op.threshold > 0) kept = draw_rows(op, draws, at.head, key, last_keys - key);
    wait_for_copies<1>();
    __syncthreads();
    DiagonalSums diagonals(shared.exchange[warp], shared.diagonals[warp]);
#pragma unroll
    for (int part = 0; part < 2; ++part) {
      const int first = 32 * part;
      float scores[4][4] = {}, d_scores[4][4] = {};
      if (key + first < last_keys) {
#pragma unroll
        for (int step = 0; step < D / 16; ++step) {
          mma_rows(scores, q[step], shared.k[stage], first, step);
          mma_rows(d_scores, d_out[step], shared.v[stage], first, step);
        }
        for (int half = 0; half < 2; ++half)
          rows.visible[half] = at.visible(op.causal, query + row + lane / 4 + 8 * half) - key - first;
        rows.differentiate(op, {kept.words[0][part], kept.words[1][part]},
                           shared.bias[stage].pairs(first + lane % 4 * 2 - row - lane / 4 + kTile - 1), scores,
                           d_scores);
#pragma unroll
        for (int step = 0; step < 2; ++step)
          mma_columns(sums, rounded_operand<T>(d_scores, step), shared.k[stage], first + 16 * step);
      }
      if (d_buckets != nullptr) diagonals.add(d_scores);
    }
    if (d_buckets != nullptr) {
      diagonals.finish();
      __syncthreads();
      add_diagonals(gradient, query, key, shared, d_buckets);
    }
    __syncthreads();
    load(key + 2 * kTile, stage);
  }
  store_sums<T>(sums, 1.0F, 1.0F, shared.k[0], row, 0,
                tile_rows(gradient.d_q, op.q_stride, column, at.first_query, query, at.queries), op);
}

}  // namespace spillway::kernels::cuda
