// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cfloat>
#include <cmath>

#include "kernels/cuda/attention_simt.cuh"

namespace spillway::kernels::cuda {

/// The largest, or the sum, of the 16 threads that have a row.
__device__ inline float row_max(float value) {
  for (int step = 8; step > 0; step /= 2) value = fmaxf(value, __shfl_xor_sync(0xFFFFFFFFU, value, step));
  return value;
}
__device__ inline float row_sum(float value) {
  for (int step = 8; step > 0; step /= 2) value += __shfl_xor_sync(0xFFFFFFFFU, value, step);
  return value;
}

/// Grid: (sequences · heads · blocks of queries, blocks of columns).
template <typename T>
__global__ void __launch_bounds__(kSimtThreads)
    attention_forward_simt(const __grid_constant__ AttentionArguments<T> op) {
  __shared__ SimtShared shared;
  const AttentionPlace at = AttentionPlace::of(op, blockIdx.x, op.query_blocks);
  const int query = at.block * kTile;
  if (query >= at.queries) return;
  const int begin = static_cast<int>(blockIdx.y) * kTile;
  const std::int64_t column = static_cast<std::int64_t>(at.head) * op.head_size;
  const TileRows<const T> q = tile_rows<const T>(op.q, op.q_stride, column, at.first_query, query, at.queries);

  SimtTile sums = {};
  float most[4], total[4] = {};
  for (float& value : most) value = -INFINITY;
  const int keys = at.visible(op.causal, min(query + kTile, at.queries) - 1);
  for (int key = 0; key < keys; key += kTile) {
    load_extras(op, at, query, key, shared.extras);
    SimtTile scores;
    scores_of(scores, q, tile_rows<const T>(op.k, op.k_stride, column, at.first_key, key, at.keys), op.head_size,
              shared);
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const int i = simt_row() + r;
      const int visible = at.visible(op.causal, query + i) - key;
      float largest = most[r];
      for (int c = 0; c < 4; ++c) {
        const int j = simt_column() + c;
        scores[r][c] = j < visible ? scores[r][c] + shared.extras.bias_of(i, j) : -INFINITY;
        largest = fmaxf(largest, scores[r][c]);
      }
      largest = row_max(largest);
      // Key 0 is visible to every query, so the largest is a number after the first tile.
      const float correction = expf(most[r] - largest);
      most[r] = largest;
      float sum = 0.0F;
      for (int c = 0; c < 4; ++c) {
        const float power = expf(scores[r][c] - largest);
        sum += power;
        scores[r][c] = shared.extras.kept(i, simt_column() + c) ? power : 0.0F;
        sums[r][c] *= correction;
      }
      total[r] = total[r] * correction + row_sum(sum);
    }
    share_transposed(scores, shared);
    load_operand(tile_rows<const T>(op.v, op.v_stride, column, at.first_key, key, at.keys), begin, op.head_size,
                 shared);
    __syncthreads();
    add_products(sums, shared.scores, shared.operand, kTile);
  }

  float factor[4];
  for (int r = 0; r < 4; ++r) {
    factor[r] = op.scale / total[r];
    const int i = query + simt_row() + r;
    if (op.log_sum_exp != nullptr && begin == 0 && simt_column() == 0 && i < at.queries)
      op.log_sum_exp[static_cast<std::int64_t>(at.first_query + i) * op.heads + at.head] = most[r] + logf(total[r]);
  }
  store_tile(sums, factor, tile_rows<T>(op.out, op.width, column, at.first_query, query, at.queries), begin,
             op.head_size);
}

}  // namespace spillway::kernels::cuda
