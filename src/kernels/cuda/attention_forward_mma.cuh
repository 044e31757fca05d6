// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>

#include "kernels/cuda/attention_copies.cuh"
#include "kernels/cuda/attention_distances.cuh"
#include "kernels/cuda/attention_draws.cuh"

namespace spillway::kernels::cuda {

/// The largest, or the sum, of the four lanes that have a row.
__device__ inline float quad_max(float value) {
  value = fmaxf(value, __shfl_xor_sync(0xFFFFFFFFU, value, 1));
  return fmaxf(value, __shfl_xor_sync(0xFFFFFFFFU, value, 2));
}
__device__ inline float quad_sum(float value) {
  value += __shfl_xor_sync(0xFFFFFFFFU, value, 1);
  return value + __shfl_xor_sync(0xFFFFFFFFU, value, 2);
}

/// What a lane knows so far of the softmax of its rows g and g + 8. Scores are exponents of 2.
struct RunningSoftmax {
  float most[2] = {-INFINITY, -INFINITY};
  float total[2] = {0.0F, 0.0F};  // of the lane's own columns
};

/// Scores as exponents of 2, with their bias. \param pairs  of the thread's first element; those of rows g + 8 are 8 before
template <int Count>
__device__ void add_bias(float (&scores)[Count][4], const float* pairs) {
  float2 upper = pair_at(pairs, -1);
#pragma unroll
  for (int n = 0; n < Count; ++n) {
    const float2 lower = pair_at(pairs, n);
    scores[n][0] = __fmaf_rn(scores[n][0], kLog2OfE, lower.x);
    scores[n][1] = __fmaf_rn(scores[n][1], kLog2OfE, lower.y);
    scores[n][2] = __fmaf_rn(scores[n][2], kLog2OfE, upper.x);
    scores[n][3] = __fmaf_rn(scores[n][3], kLog2OfE, upper.y);
    upper = lower;
  }
}

/// Turns a warp's scores into probabilities relative to the largest so far and tells by what factors the sums of earlier keys change.
template <int Count>
__device__ void soften(float (&scores)[Count][4], RunningSoftmax& softmax, float (&corrections)[2]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float largest = softmax.most[half];
#pragma unroll
    for (int n = 0; n < Count; ++n) largest = fmaxf(largest, fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
    largest = quad_max(largest);
    // Key 0 is visible to every query, so the largest is a number from the first keys on.
    corrections[half] = power_of_2(softmax.most[half] - largest);
    softmax.most[half] = largest;
    float sum = 0.0F;
#pragma unroll
    for (int n = 0; n < Count; ++n) {
#pragma unroll
      for (int e = 2 * half; e < 2 * half + 2; ++e) {
        scores[n][e] = power_of_2(scores[n][e] - largest);
        sum += scores[n][e];
      }
    }
    softmax.total[half] = __fmaf_rn(softmax.total[half], corrections[half], sum);
  }
}

/// A left operand of probabilities without the dropped ones. \param byte  which eight keys of `words` its first ones are
template <typename T>
__device__ void drop(LeftOperand& operand, const std::uint32_t (&words)[2], int byte) {
  const int column = static_cast<int>(threadIdx.x % 4) * 2;
#pragma unroll
  for (int part = 0; part < 4; ++part) {
    const std::uint32_t word = words[part % 2];
    operand.parts[part] &= pair_mask(word << (7 - column), word << (6 - column), byte + part / 2);
  }
}

template <typename T, int D, int Warps>
struct ForwardTiles {
  static constexpr int kQueries = 16 * Warps;
  OperandTile<T, D, kQueries> q;
  OperandTile<T, D> k[2], v[2];                  // two tiles at a time
  DistanceWindow<2 * kTile + kQueries> bias[2];  // each for two tiles of keys
};

/// Heads of up to D columns, 16 Warps queries at a time. Grid: blocks of queries, heads, sequences. Shared memory: ForwardTiles.
template <typename T, int D, int Warps>
__global__ void __launch_bounds__(32 * Warps, D == 64 && Warps == 8 ? 3 : 16 / Warps)
    attention_forward_mma(const __grid_constant__ AttentionArguments<T> op) {
  extern __shared__ uint4 memory[];
  using Tiles = ForwardTiles<T, D, Warps>;
  constexpr int kThreads = 32 * Warps;
  constexpr int kPart = 32;  // keys whose scores a warp has at a time
  auto& shared = *reinterpret_cast<Tiles*>(memory);
  const AttentionPlace at = AttentionPlace::of(op, blockIdx);
  const int query = at.block * Tiles::kQueries;
  if (query >= at.queries) return;
  const std::int64_t column = static_cast<std::int64_t>(at.head) * op.head_size;
  const int row = static_cast<int>(threadIdx.x / 32) * 16;
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int keys = at.visible(op.causal, min(query + Tiles::kQueries, at.queries) - 1);
  const int first_keys = at.visible(op.causal, query + row);  // those that the warp's first row sees
  const int last_keys = query + row < at.queries ? at.visible(op.causal, query + row + 15) : 0;

  const auto load = [&](int key, int stage) {
    if (key < keys) {
      load_tile<kThreads>(tile_rows(op.k, op.k_stride, column, at.first_key, key, at.keys), op, shared.k[stage]);
      load_tile<kThreads>(tile_rows(op.v, op.v_stride, column, at.first_key, key, at.keys), op, shared.v[stage]);
    }
    end_copy_group();
  };
  const auto load_bias = [&](int key) {
    if (op.table == nullptr || key >= keys || (key >> kTileShift & 1) != 0) return;
    for (int t = threadIdx.x; t < 2 * kTile + Tiles::kQueries - 1; t += kThreads)
      shared.bias[key >> kPairShift & 1].set(t,
                                             bias_of(op, at.head, key - query + t - (Tiles::kQueries - 1)) * kLog2OfE);
  };
  const QueryDraws draws[2] = {draws_of(op, at, query + row + lane / 4), draws_of(op, at, query + row + lane / 4 + 8)};
  load_tile<kThreads>(tile_rows(op.q, op.q_stride, column, at.first_query, query, at.queries), op, shared.q);
  load(0, 0);
  load(kTile, 1);
  load_bias(0);

  float sums[D / 8][4] = {};
  RunningSoftmax softmax;
#pragma unroll 1
  for (int key = 0; key < keys; key += kTile) {
    const int stage = key >> kTileShift & 1;
    load_bias(key + kTile);
    KeptKeys kept{};
    if (op.threshold > 0) kept = draw_rows(op, draws, at.head, key, last_keys - key);
    wait_for_copies<1>();
    __syncthreads();
#pragma unroll
    for (int part = 0; part < kTile / kPart; ++part) {
      const int first = part * kPart;
      if (key + first >= last_keys) break;
      float scores[kPart / 8][4] = {};
#pragma unroll
      for (int step = 0; step < D / 16; ++step)
        mma_rows(scores, left_operand(shared.q, row, 16 * step), shared.k[stage], first, step);
      if (op.table != nullptr) {
        add_bias(scores, shared.bias[key >> kPairShift & 1].pairs(stage * kTile + first + lane % 4 * 2 - row -
                                                                  lane / 4 + Tiles::kQueries - 1));
      } else {
#pragma unroll
        for (int n = 0; n < kPart / 8; ++n)
          for (float& score : scores[n]) score *= kLog2OfE;
      }
      if (first_keys < key + first + kPart) {  // not all rows see all of these keys
#pragma unroll
        for (int n = 0; n < kPart / 8; ++n) {
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            const int visible = at.visible(op.causal, query + row + lane / 4 + e / 2 * 8);
            if (key + first + 8 * n + lane % 4 * 2 + e % 2 >= visible) scores[n][e] = -INFINITY;
          }
        }
      }
      float corrections[2];
      soften(scores, softmax, corrections);
      if (key + first > 0) {
#pragma unroll
        for (int n = 0; n < D / 8; ++n)
          for (int e = 0; e < 4; ++e) sums[n][e] *= corrections[e / 2];
      }
#pragma unroll
      for (int step = 0; step < kPart / 16; ++step) {
        LeftOperand probabilities = rounded_operand<T>(scores, step);
        if (op.threshold > 0) drop<T>(probabilities, {kept.words[0][part], kept.words[1][part]}, 2 * step);
        mma_columns(sums, probabilities, shared.v[stage], first + 16 * step);
      }
    }
    __syncthreads();
    load(key + 2 * kTile, stage);
  }

  float factors[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float total = quad_sum(softmax.total[half]);
    factors[half] = __fdividef(op.scale, total);
    const int i = query + row + lane / 4 + 8 * half;
    if (op.log_sum_exp != nullptr && lane % 4 == 0 && i < at.queries)
      op.log_sum_exp[static_cast<std::int64_t>(at.first_query + i) * op.heads + at.head] =
          (softmax.most[half] + log_base_2(total)) * kLogOf2;
  }
  store_sums<T>(sums, factors[0], factors[1], shared.q, row, 0,
                tile_rows(op.out, op.width, column, at.first_query, query, at.queries), op);
}

}  // namespace spillway::kernels::cuda
