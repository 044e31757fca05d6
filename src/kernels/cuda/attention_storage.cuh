// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <type_traits>

#include <cuda_bf16.h>

#include "core/dtype.hpp"

namespace spillway::kernels::cuda {

__device__ inline float attention_float(float value) { return value; }
__device__ inline float attention_float(__nv_bfloat16 value) { return __bfloat162float(value); }

template <typename T>
__device__ T attention_stored(float value) {
  if constexpr (std::is_same_v<T, float>) {
    return value;
  } else {
    return __float2bfloat16_rn(value);
  }
}

/// Calls `work` with the type of `dtype`'s elements in device memory: f32, or bf16.
template <typename Work>
void visit_attention_storage(DType dtype, const Work& work) {
  if (dtype == DType::bf16) {
    work(std::type_identity<__nv_bfloat16>{});
  } else {
    work(std::type_identity<float>{});
  }
}

}  // namespace spillway::kernels::cuda
