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
__device__ inline void add_bias(float (&scores)[kTile / 8][4], const float* pairs) {
  float2 upper = pair_at(pairs, -1);
#pragma unroll
  for (int n = 0; n < kTile / 8; ++n) {
    const float2 lower = pair_at(pairs, n);
    scores[n][0] = __fmaf_rn(scores[n][0], kLog2OfE, lower.x);
    scores[n][1] = __fmaf_rn(scores[n][1], kLog2OfE, lower.y);
    scores[n][2] = __fmaf_rn(scores[n][2], kLog2OfE, upper.x);
    scores[n][3] = __fmaf_rn(scores[n][3], kLog2OfE, upper.y);
    upper = lower;
  }
}

/// Turns a warp's scores into probabilities relative to the largest so far and tells by what factors the sums of earlier tiles change.
__device__ inline void soften(float (&scores)[kTile / 8][4], RunningSoftmax& softmax, float (&corrections)[2]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float largest = softmax.most[half];
#pragma unroll
    for (int n = 0; n < kTile / 8; ++n) largest = fmaxf(largest, fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
    largest = quad_max(largest);
    // Key 0 is visible to every query, so the largest is a number after the first tile.
    corrections[half] = power_of_2(softmax.most[half] - largest);
    softmax.most[half] = largest;
    float sum = 0.0F;
#pragma unroll
    for (int n = 0; n < kTile / 8; ++n) {
#pragma unroll
      for (int e = 2 * half; e < 2 * half + 2; ++e) {
        scores[n][e] = power_of_2(scores[n][e] - largest);
        sum += scores[n][e];
      }
    }
    softmax.total[half] = __fmaf_rn(softmax.total[half], corrections[half], sum);
  }
}

/// The left operand of `step`, dropped elements 0.
template <typename T>
__device__ LeftOperand kept_operand(const float (&tile)[kTile / 8][4], int step, const KeptKeys& kept) {
  LeftOperand operand = rounded_operand<T>(tile, step);
  const int column = static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
  for (int part = 0; part < 4; ++part) {
    const std::uint32_t word = kept.words[part % 2][step / 2];
    operand.parts[part] &= pair_mask(word << (7 - column), word << (6 - column), (2 * step + part / 2) % 4);
  }
  return operand;
}

template <typename T, int D>
struct ForwardTiles {
  OperandTile<T, D> k[2], v[2];  // two tiles at a time; v[1] has the queries first
  DistanceWindow<2 * kTile> bias[2];
};

/// Thread blocks that a multiprocessor should hold.
template <int D>
constexpr int kForwardBlocks = D == 64 ? 4 : 3;

/// Heads of up to D columns. Grid: sequences · heads · blocks of queries. Shared memory: ForwardTiles.
template <typename T, int D>
__global__ void __launch_bounds__(kMmaThreads, kForwardBlocks<D>)
    attention_forward_mma(const __grid_constant__ AttentionArguments<T> op) {
  extern __shared__ uint4 memory[];
  auto& shared = *reinterpret_cast<ForwardTiles<T, D>*>(memory);
  const AttentionPlace at = AttentionPlace::of(op, blockIdx.x, op.query_blocks);
  const int query = at.block * kTile;
  if (query >= at.queries) return;
  const std::int64_t column = static_cast<std::int64_t>(at.head) * op.head_size;
  const int row = static_cast<int>(threadIdx.x) / 32 * 16;
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int keys = at.visible(op.causal, min(query + kTile, at.queries) - 1);
  const int row_keys = at.visible(op.causal, query + row);  // those that the warp's first row sees
  const int last_keys = at.visible(op.causal, query + row + 15);

  const auto load = [&](const T* tensor, std::int64_t stride, int key, OperandTile<T, D>& tile) {
    if (key < keys)
      load_tile<kMmaThreads>(tile_rows(tensor, stride, column, at.first_key, key, at.keys), op.head_size, tile);
    end_copy_group();
  };
  const auto load_bias = [&](int key, DistanceWindow<2 * kTile>& window) {
    if (op.table == nullptr) return;
    for (int t = threadIdx.x; t < 2 * kTile - 1; t += kMmaThreads)
      window.set(t, bias_of(op, at.head, key - query + t - (kTile - 1)) * kLog2OfE);
  };
  load_tile<kMmaThreads>(tile_rows(op.q, op.q_stride, column, at.first_query, query, at.queries), op.head_size,
                         shared.v[1]);
  load(op.k, op.k_stride, 0, shared.k[0]);
  load(op.v, op.v_stride, 0, shared.v[0]);
  load(op.k, op.k_stride, kTile, shared.k[1]);
  load_bias(0, shared.bias[0]);
  const QueryDraws draws[2] = {draws_of(op, at, query + row + lane / 4), draws_of(op, at, query + row + lane / 4 + 8)};
  KeptKeys kept{};
  if (op.threshold > 0) kept = draw_rows(op, draws, at.head, 0, last_keys);
  wait_for_copies<2>();
  __syncthreads();
  LeftOperand q[D / 16];
#pragma unroll
  for (int step = 0; step < D / 16; ++step) q[step] = left_operand(shared.v[1], row, 16 * step);
  __syncthreads();
  load(op.v, op.v_stride, kTile, shared.v[1]);

  float sums[D / 8][4] = {};
  RunningSoftmax softmax;
  for (int key = 0; key < keys; key += kTile) {
    const int stage = key / kTile % 2;
    if (key + kTile < keys) load_bias(key + kTile, shared.bias[1 - stage]);
    wait_for_copies<2>();
    __syncthreads();
    float scores[kTile / 8][4] = {};
#pragma unroll
    for (int step = 0; step < D / 16; ++step) mma_rows(scores, q[step], shared.k[stage], 0, step);
    if (op.table != nullptr) {
      add_bias(scores, shared.bias[stage].pairs(lane % 4 * 2 - row - lane / 4 + kTile - 1));
    } else {
#pragma unroll
      for (int n = 0; n < kTile / 8; ++n)
        for (float& score : scores[n]) score *= kLog2OfE;
    }
    if (row_keys < key + kTile) {  // not all rows see all keys of the tile
#pragma unroll
      for (int n = 0; n < kTile / 8; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int visible = at.visible(op.causal, query + row + lane / 4 + e / 2 * 8);
          if (key + 8 * n + lane % 4 * 2 + e % 2 >= visible) scores[n][e] = -INFINITY;
        }
      }
    }
    float corrections[2];
    soften(scores, softmax, corrections);
#pragma unroll
    for (int n = 0; n < D / 8; ++n)
      for (int e = 0; e < 4; ++e) sums[n][e] *= corrections[e / 2];
#pragma unroll
    for (int step = 0; step < kTile / 16; ++step) {
      const LeftOperand probabilities =
          op.threshold > 0 ? kept_operand<T>(scores, step, kept) : rounded_operand<T>(scores, step);
      mma_columns(sums, probabilities, shared.v[stage], 16 * step);
    }
    if (key + kTile < keys) {
      if (op.threshold > 0) kept = draw_rows(op, draws, at.head, key + kTile, last_keys - key - kTile);
      __syncthreads();
      load(op.k, op.k_stride, key + 2 * kTile, shared.k[stage]);
      load(op.v, op.v_stride, key + 2 * kTile, shared.v[stage]);
    }
  }

  float factors[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float total = quad_sum(softmax.total[half]);
    factors[half] = op.scale / total;
    const int i = query + row + lane / 4 + 8 * half;
    if (op.log_sum_exp != nullptr && lane % 4 == 0 && i < at.queries)
      op.log_sum_exp[static_cast<std::int64_t>(at.first_query + i) * op.heads + at.head] =
          softmax.most[half] * kLogOf2 + logf(total);
  }
  __syncthreads();
  store_sums<T>(sums, factors[0], factors[1], shared.k[0], row, 0,
                tile_rows(op.out, op.width, column, at.first_query, query, at.queries), op.head_size);
}

}  // namespace spillway::kernels::cuda
