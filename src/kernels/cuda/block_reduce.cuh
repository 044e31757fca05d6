// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace spillway::kernels::cuda {

inline constexpr int kWarp = 32;

/// Combines one value of each thread of the block, for all of them, in an order that depends on the number of threads
/// alone. All threads of the block call it; their number is a multiple of 32.
/// \param combine  associative but for rounding; the same for (a, b) and (b, a)
template <typename T, typename Combine>
__device__ inline T block_reduce(T value, const Combine& combine) {
  __shared__ T of_warps[kWarp];
  for (int step = kWarp / 2; step > 0; step /= 2) value = combine(value, __shfl_xor_sync(0xFFFFFFFFU, value, step));
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  __syncthreads();  // an earlier reduction may still be read
  if (threadIdx.x % kWarp == 0) of_warps[threadIdx.x / kWarp] = value;
  __syncthreads();
  value = of_warps[0];
  for (int warp = 1; warp < warps; ++warp) value = combine(value, of_warps[warp]);
  return value;
}

template <typename T>
__device__ inline T block_sum(T value) {
  return block_reduce(value, [](T a, T b) { return a + b; });
}

}  // namespace spillway::kernels::cuda
