// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace spillway::kernels::cuda {

/// Combines what all threads of a block have, in an order that only their number decides, and gives the result to all.
/// `combine` need not commute for equal results: (a, b) is always (lower threads, higher threads).
/// \tparam kThreads  of the block, a multiple of 32
template <int kThreads, typename T, typename Combine>
__device__ T combine_block(T value, const Combine& combine) {
  constexpr int kWarps = kThreads / 32;
  static_assert(kThreads % 32 == 0 && kWarps <= 32 && (kWarps & (kWarps - 1)) == 0);
  __shared__ T of_warps[kWarps];
  for (int step = 1; step < 32; step *= 2) {
    T other;
    if constexpr (requires { T::shuffled(value, step); }) other = T::shuffled(value, step);
    else other = __shfl_xor_sync(0xFFFFFFFFU, value, step);
    value = (threadIdx.x & step) != 0 ? combine(other, value) : combine(value, other);
  }
  __syncthreads();  // of_warps may be in use still
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = value;
  __syncthreads();
  T result = of_warps[0];
  for (int warp = 1; warp < kWarps; ++warp) result = combine(result, of_warps[warp]);
  return result;
}

template <int kThreads, typename T>
__device__ T block_sum(T value) {
  return combine_block<kThreads>(value, [](T a, T b) { return a + b; });
}

}  // namespace spillway::kernels::cuda
