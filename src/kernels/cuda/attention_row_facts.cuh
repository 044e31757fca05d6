// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>

#include "kernels/cuda/attention_copies.cuh"
#include "kernels/cuda/attention_distances.cuh"
#include "kernels/cuda/attention_draws.cuh"

namespace spillway::kernels::cuda {

/// What the gradient of a tile of scores needs of its queries, in shared memory.
struct RowFacts {
  alignas(8) float log_sum_exp[kTile];  // of base 2; infinity where there is no query: no probability
  alignas(8) float delta[kTile];        // out · d_out
  QueryDraws draws[kTile];
};

/// The sum of the products of eight neighbours.
template <typename T>
__device__ float product_of_pieces(const T* left, const T* right, float sum) {
  const uint4 as = *reinterpret_cast<const uint4*>(left);
  const uint4 bs = *reinterpret_cast<const uint4*>(right);
  const T* const a = reinterpret_cast<const T*>(&as);
  const T* const b = reinterpret_cast<const T*>(&bs);
#pragma unroll
  for (int i = 0; i < 8; ++i) sum = __fmaf_rn(widen(a[i]), widen(b[i]), sum);
  return sum;
}

/// The facts of kTile queries from `query` on, D columns at most. All threads take part; they must meet before `facts` is read.
template <int Threads, int D, typename T>
__device__ void load_row_facts(const AttentionGradientArguments<T>& gradient, const AttentionPlace& at, int query,
                               RowFacts& facts) {
  constexpr int kShare = Threads / kTile;  // threads for a query
  static_assert(kShare >= 1 && kShare <= 32 && sizeof(T) == 2);
  const AttentionArguments<T>& op = gradient.forward;
  const int row = static_cast<int>(threadIdx.x / kShare);
  const int share = static_cast<int>(threadIdx.x % kShare);
  const bool inside = query + row < at.queries;
  const std::int64_t place = static_cast<std::int64_t>(at.first_query + query + row) * op.heads + at.head;
  float delta = 0.0F;
  if (inside) {
    const T* const out = op.out + place * op.head_size;
    const T* const d_out = gradient.d_out + place * op.head_size;
    if (op.in_pieces) {
#pragma unroll
      for (int t = 0; t < D / 8; t += kShare) {
        const int column = 8 * (t + share);
        if (column < op.head_size) delta = product_of_pieces(out + column, d_out + column, delta);
      }
    } else {
#pragma unroll 1
      for (int column = share; column < op.head_size; column += kShare)
        delta = __fmaf_rn(widen(out[column]), widen(d_out[column]), delta);
    }
  }
#pragma unroll
  for (int step = kShare / 2; step > 0; step /= 2) delta += __shfl_xor_sync(0xFFFFFFFFU, delta, step);
  if (share == 0) {
    facts.log_sum_exp[row] = inside ? op.log_sum_exp[place] * kLog2OfE : INFINITY;
    facts.delta[row] = delta;
    facts.draws[row] = draws_of(op, at, query + row);
  }
}

}  // namespace spillway::kernels::cuda
