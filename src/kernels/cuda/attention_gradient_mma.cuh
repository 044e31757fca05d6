// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>

#include "kernels/cuda/attention_head_tiles.cuh"

namespace spillway::kernels::cuda {

// Gradients of a head: a thread block has a block of keys, a warp 16 of them, whose d_k and d_v it keeps in registers while the queries
// pass by, kTile at a time. Where the block is the whole sequence, the scores' gradients of all keys meet in shared memory and make d_q.

/// The fragments of 16 keys and 32 queries.
struct PairFragments {
  float scores[4][4], d_scores[4][4];
};

/// Of scores q·k and of d_out·v: what is left of the probabilities, not yet scaled, and the gradients of scores. Pairs not visible: 0.
/// \param key    the first of the warp's
/// \param query  of the fragments' first; `local` of the tile
template <typename T>
__device__ void differentiate(const AttentionArguments<T>& op, const AttentionPlace& at, int key, int query, int local,
                              const RowFacts& rows, const float* bias, PairFragments& pairs) {
  const int g = static_cast<int>(threadIdx.x % 32 / 4);
  const int c = static_cast<int>(threadIdx.x % 4);
  const bool all = key + 16 <= at.visible(op.causal, query);
  KeptQueries kept;
  if (op.threshold > 0) {
    kept = draw_columns(op, rows.draws[local + static_cast<int>(threadIdx.x % 32)], at.head, key);
  } else {
    for (std::uint32_t& word : kept.words) word = 0xFFFFFFFFU;
  }
  const bool biased = op.table != nullptr;
  float2 upper = biased ? pair_at(bias, -1) : float2{0.0F, 0.0F};
#pragma unroll
  for (int n = 0; n < 4; ++n) {
    const float2 lower = biased ? pair_at(bias, n) : float2{0.0F, 0.0F};
    const float exponents[4] = {lower.x, lower.y, upper.x, upper.y};
    upper = lower;
    const int i = 8 * n + 2 * c;
    const float2 log_sum_exp = *reinterpret_cast<const float2*>(&rows.log_sum_exp[local + i]);
    const float2 delta = *reinterpret_cast<const float2*>(&rows.delta[local + i]);
    const std::uint32_t bits = kept.words[n] >> g;
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const float sum = e % 2 == 0 ? log_sum_exp.x : log_sum_exp.y;
      const float own = e % 2 == 0 ? delta.x : delta.y;
      float probability = power_of_2(__fmaf_rn(pairs.scores[n][e], kLog2OfE, exponents[e]) - sum);
      if (!all && key + g + e / 2 * 8 >= at.visible(op.causal, query + i + e % 2)) probability = 0.0F;
      const bool stays = (bits >> (8 * (e % 2 * 2 + e / 2)) & 1) != 0;
      const float d_probability = stays ? __fmaf_rn(pairs.d_scores[n][e], op.scale, -own) : -own;
      pairs.scores[n][e] = stays ? probability : 0.0F;
      pairs.d_scores[n][e] = probability * d_probability;
    }
  }
}

/// Writes the left operand of 16 queries to rows [key, key + 16) and columns [query, query + 16) of a tile, for d_q.
template <typename T, int Rows>
__device__ void store_operand(const LeftOperand& operand, OperandTile<T, kTile, Rows>& tile, int key, int query) {
  const int lane = static_cast<int>(threadIdx.x % 32);
#pragma unroll
  for (int part = 0; part < 4; ++part)
    *reinterpret_cast<std::uint32_t*>(&tile.rows[key + lane / 4 + part % 2 * 8][query + part / 2 * 8 + lane % 4 * 2]) =
        operand.parts[part];
}

/// d_q of a tile of queries from d_scores of all keys: 16 queries and a part of the columns for each warp, through the memory of q.
template <typename T, int D, int Warps>
__device__ void write_d_q(const AttentionGradientArguments<T>& gradient, const AttentionPlace& at, int query, int stage,
                          HeadTiles<T, D, Warps>& shared) {
  const AttentionArguments<T>& op = gradient.forward;
  constexpr int kColumns = D / (Warps / 4);
  const int warp = static_cast<int>(threadIdx.x / 32);
  const int row = warp % 4 * 16;
  if (query + row >= at.queries) return;
  float d_q[kColumns / 8][4] = {};
  const int keys = at.visible(op.causal, query + row + 15);
#pragma unroll 2
  for (int first = 0; first < keys; first += 16)
    mma_columns(d_q, left_of_columns(shared.d_scores, first, row), shared.k, first, warp / 4 * kColumns);
  const std::int64_t column = static_cast<std::int64_t>(at.head) * op.head_size;
  store_sums<T>(d_q, 1.0F, 1.0F, shared.q[stage], row, warp / 4 * kColumns,
                tile_rows(gradient.d_q, op.q_stride, column, at.first_query, query, at.queries), op);
}

/// Thread blocks that a multiprocessor should hold: what registers allow.
template <int D, int Warps>
constexpr int kHeadBlocks = D == 64 ? (Warps == 4   ? 4
                                       : Warps == 8 ? 2
                                                    : 1)
                                    : (Warps == 4 ? 2 : 1);

/// d_k and d_v of heads of up to D columns, in blocks of 16 Warps keys. Grid: blocks, heads, sequences. Whole: there is one block, and
/// d_q and d_buckets, which is (sequences, heads, buckets), are made too. Shared memory: HeadTiles::bytes.
template <typename T, int D, int Warps, bool Whole>
__global__ void __launch_bounds__(32 * Warps, kHeadBlocks<D, Warps>)
    attention_gradient_mma(const __grid_constant__ AttentionGradientArguments<T> gradient) {
  extern __shared__ uint4 memory[];
  using Tiles = HeadTiles<T, D, Warps>;
  constexpr int kThreads = 32 * Warps;
  auto& shared = *reinterpret_cast<Tiles*>(memory);
  const AttentionArguments<T>& op = gradient.forward;
  const AttentionPlace at = AttentionPlace::of(op, blockIdx);
  const int block = at.block * Tiles::kKeys;  // its first key
  if (block >= at.keys) return;
  const std::int64_t column = static_cast<std::int64_t>(at.head) * op.head_size;
  const int warp = static_cast<int>(threadIdx.x / 32);
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int place = 16 * warp;  // of the warp's keys in the block
  const int key = block + place;
  float* const diagonals = reinterpret_cast<float*>(memory + sizeof(Tiles) / 16);
  DiagonalSums sums(shared.exchange[warp], diagonals + warp * Tiles::diagonals(op.query_blocks));

  static_assert(Whole || Tiles::kKeys % (2 * kTile) == 0);  // start begins a pair of tiles
  const int start = op.causal ? block : 0;                  // the first query that sees the block
  const auto load = [&](int query, int stage) {
    if (query < at.queries) {
      load_tile<kThreads>(tile_rows(op.q, op.q_stride, column, at.first_query, query, at.queries), op, shared.q[stage]);
      load_tile<kThreads>(tile_rows(gradient.d_out, op.width, column, at.first_query, query, at.queries), op,
                          shared.d_out[stage]);
    }
    end_copy_group();
  };
  const auto load_rows = [&](int query, int stage) {
    if (query >= at.queries) return;
    load_row_facts<kThreads, D>(gradient, at, query, shared.rows[stage]);
    if (op.table == nullptr || stage == 1) return;
    for (int t = threadIdx.x; t < 2 * kTile + Tiles::kKeys - 1; t += kThreads)
      shared.bias[query >> kPairShift & 1].set(t,
                                               bias_of(op, at.head, block + Tiles::kKeys - 1 - t - query) * kLog2OfE);
  };
  load_tile<kThreads>(tile_rows(op.k, op.k_stride, column, at.first_key, block, at.keys), op, shared.k);
  load_tile<kThreads>(tile_rows(op.v, op.v_stride, column, at.first_key, block, at.keys), op, shared.v);
  load(start, 0);
  load(start + kTile, 1);
  load_rows(start, 0);

  float d_k[D / 8][4] = {}, d_v[D / 8][4] = {};
  for (int query = start; query < at.queries; query += kTile) {
    const int stage = query >> kTileShift & 1;
    load_rows(query + kTile, 1 - stage);
    wait_for_copies<1>();
    __syncthreads();
    if (key < at.keys) {
#pragma unroll 1
      for (int local = 0; local < kTile && query + local < at.queries; local += 32) {
        PairFragments pairs = {};
        const bool seen = key < at.visible(op.causal, query + local + 31);
        if (seen) {
          mma_scores(pairs.scores, shared.k, place, shared.q[stage], local);
          mma_scores(pairs.d_scores, shared.v, place, shared.d_out[stage], local);
          const int index = stage * kTile + local + lane % 4 * 2 - place - lane / 4 + Tiles::kKeys - 1;
          differentiate(op, at, key, query + local, local, shared.rows[stage],
                        shared.bias[query >> kPairShift & 1].pairs(index), pairs);
        }
        if (Whole && gradient.d_buckets != nullptr) sums.add(pairs.d_scores);
#pragma unroll
        for (int step = 0; step < 2; ++step) {
          const LeftOperand probabilities = rounded_operand<T>(pairs.scores, step);
          const LeftOperand d_scores = rounded_operand<T>(pairs.d_scores, step);
          if constexpr (Whole) store_operand(d_scores, shared.d_scores, place, local + 16 * step);
          if (!seen) continue;
          mma_columns(d_v, probabilities, shared.d_out[stage], local + 16 * step);
          mma_columns(d_k, d_scores, shared.q[stage], local + 16 * step);
        }
      }
    }
    __syncthreads();
    if constexpr (Whole) {
      write_d_q<T, D, Warps>(gradient, at, query, stage, shared);
      __syncthreads();
    }
    load(query + 2 * kTile, stage);
  }

  wait_for_copies<0>();
  __syncthreads();
  if (key < at.keys) {
    store_sums<T>(d_k, 1.0F, 1.0F, shared.k, place, 0,
                  tile_rows(gradient.d_k, op.k_stride, column, at.first_key, block, at.keys), op);
    store_sums<T>(d_v, op.scale, op.scale, shared.v, place, 0,
                  tile_rows(gradient.d_v, op.v_stride, column, at.first_key, block, at.keys), op);
    if (Whole && gradient.d_buckets != nullptr) sums.finish();
  }
  if (!Whole || gradient.d_buckets == nullptr) return;
  __syncthreads();
  sum_diagonals<T, D, Warps>(gradient, at, diagonals, &shared.k,
                             gradient.d_buckets + at.number(op, 1) * gradient.buckets);
}

}  // namespace spillway::kernels::cuda
