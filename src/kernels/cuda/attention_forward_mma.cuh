// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>

#include "kernels/cuda/attention_mma.cuh"

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

/// Which rows of a block of queries a lane has the softmax of, and what it knows of them so far: row() and row() + 8.
struct RunningSoftmax {
  float most[2] = {-INFINITY, -INFINITY};
  float total[2] = {0.0F, 0.0F};  // of the lane's own columns
};

/// Turns a warp's scores into probabilities relative to the largest so far, dropped ones 0, and tells by what factors the sums
/// of earlier tiles change.
template <typename T>
__device__ void soften(const AttentionArguments<T>& op, const AttentionPlace& at, int query, int key,
                       const TileExtras& extras, float (&scores)[kTile / 8][4], RunningSoftmax& softmax,
                       float (&corrections)[2]) {
  const int lane = static_cast<int>(threadIdx.x % 32);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int i = static_cast<int>(threadIdx.x) / 32 * 16 + lane / 4 + 8 * half;
    const int visible = at.visible(op.causal, query + i) - key;
    float largest = softmax.most[half];
#pragma unroll
    for (int n = 0; n < kTile / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int j = 8 * n + lane % 4 * 2 + e;
        float& score = scores[n][2 * half + e];
        score = j < visible ? score + extras.bias_of(i, j) : -INFINITY;
        largest = fmaxf(largest, score);
      }
    }
    largest = quad_max(largest);
    // Key 0 is visible to every query, so the largest is a number after the first tile.
    corrections[half] = __expf(softmax.most[half] - largest);
    softmax.most[half] = largest;
    const std::uint64_t keep = *reinterpret_cast<const std::uint64_t*>(&extras.keep[i * 8]) >> (lane % 4 * 2);
    float sum = 0.0F;
#pragma unroll
    for (int n = 0; n < kTile / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        float& score = scores[n][2 * half + e];
        const float power = __expf(score - largest);
        sum += power;
        score = (keep >> (8 * n + e) & 1) != 0 ? power : 0.0F;
      }
    }
    softmax.total[half] = softmax.total[half] * corrections[half] + sum;
  }
}

template <typename T, int D>
struct ForwardTiles {
  OperandTile<T, D> k, v;
  TileExtras extras;
};

/// Heads of up to D columns. Grid: sequences · heads · blocks of queries.
template <typename T, int D>
__global__ void __launch_bounds__(kMmaThreads) attention_forward_mma(AttentionArguments<T> op) {
  __shared__ ForwardTiles<T, D> shared;
  const AttentionPlace at = AttentionPlace::of(op, blockIdx.x, op.query_blocks);
  const int query = at.block * kTile;
  if (query >= at.queries) return;
  const std::int64_t column = static_cast<std::int64_t>(at.head) * op.head_size;
  const int row = static_cast<int>(threadIdx.x) / 32 * 16;
  const int lane = static_cast<int>(threadIdx.x % 32);

  load_tile(tile_rows(op.q, op.q_stride, column, at.first_query, query, at.queries), op.head_size, shared.k);
  __syncthreads();
  LeftOperand q[D / 16];
#pragma unroll
  for (int step = 0; step < D / 16; ++step) q[step] = left_operand(shared.k, row, 16 * step);

  float sums[D / 8][4] = {};
  RunningSoftmax softmax;
  const int keys = at.visible(op.causal, min(query + kTile, at.queries) - 1);
  for (int key = 0; key < keys; key += kTile) {
    __syncthreads();
    load_tile(tile_rows(op.k, op.k_stride, column, at.first_key, key, at.keys), op.head_size, shared.k);
    load_tile(tile_rows(op.v, op.v_stride, column, at.first_key, key, at.keys), op.head_size, shared.v);
    load_extras(op, at, query, key, shared.extras);
    __syncthreads();
    float scores[kTile / 8][4] = {};
#pragma unroll
    for (int step = 0; step < D / 16; ++step) {
#pragma unroll
      for (int n = 0; n < kTile / 16; ++n) {
        const RightOperands k = right_of_rows(shared.k, 16 * n, 16 * step);
        multiply_add<T>(scores[2 * n], q[step], k.parts[0], k.parts[1]);
        multiply_add<T>(scores[2 * n + 1], q[step], k.parts[2], k.parts[3]);
      }
    }
    float corrections[2];
    soften(op, at, query, key, shared.extras, scores, softmax, corrections);
#pragma unroll
    for (int n = 0; n < D / 8; ++n)
      for (int e = 0; e < 4; ++e) sums[n][e] *= corrections[e / 2];
    mma_add(sums, scores, shared.v);
  }

  float factors[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float total = quad_sum(softmax.total[half]);
    factors[half] = op.scale / total;
    const int i = query + row + lane / 4 + 8 * half;
    if (op.log_sum_exp != nullptr && lane % 4 == 0 && i < at.queries)
      op.log_sum_exp[static_cast<std::int64_t>(at.first_query + i) * op.heads + at.head] =
          softmax.most[half] + logf(total);
  }
  store_sums<T, D>(sums, row, factors[0], factors[1],
                   tile_rows(op.out, op.width, column, at.first_query, query, at.queries), op.head_size);
}

}  // namespace spillway::kernels::cuda
