// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/cuda/combine_block.cuh"
#include "kernels/cuda/log_softmax.hpp"

namespace spillway::kernels::cuda {

/// log_softmax(x) = (x - peak) - log_sum. As it is by default it leaves x alone.
struct Normaliser {
  float peak = 0.0F;
  float log_sum = 0.0F;

  [[nodiscard]] __device__ float apply(float x) const { return (x - peak) - log_sum; }
};

/// Of a row of logits, by all threads of a block.
template <int kThreads>
__device__ Normaliser normaliser_of(const float* logits, std::int64_t size, std::int64_t row, NoDistribution* failure) {
  float largest = -INFINITY;
  for (std::int64_t i = threadIdx.x; i < size; i += kThreads) largest = fmaxf(largest, logits[i]);
  const float peak = combine_block<kThreads>(largest, [](float a, float b) { return fmaxf(a, b); });
  double mine = 0.0;
  for (std::int64_t i = threadIdx.x; i < size; i += kThreads) mine += static_cast<double>(expf(logits[i] - peak));
  const double total = block_sum<kThreads>(mine);
  if (!isfinite(total) && threadIdx.x == 0) *failure = {static_cast<std::int32_t>(row), peak, total};
  return {peak, static_cast<float>(log(total))};
}

}  // namespace spillway::kernels::cuda
