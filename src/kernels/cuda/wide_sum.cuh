// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace spillway::kernels::cuda {

/// The end of WideSum: thread l of eight neighbours has sum l, thread 0 gets the total, halves first.
__device__ inline double total_of_eight(double sum) {
  for (int half = 4; half > 0; half /= 2) sum = __dadd_rn(sum, __shfl_down_sync(0xFFFFFFFFU, sum, half, 8));
  return sum;
}

__device__ inline double squared(float x) {
  const auto wide = static_cast<double>(x);
  return __dmul_rn(wide, wide);
}

}  // namespace spillway::kernels::cuda
