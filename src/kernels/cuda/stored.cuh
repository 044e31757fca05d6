// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <type_traits>

#include "core/dtype.hpp"

namespace spillway::kernels::cuda {

/// What generation reads and writes of a storage type: widened to fp32, rounded once to nearest even.
__device__ inline float widened(float value) { return value; }
__device__ inline float widened(BFloat16 value) { return float_from_bf16(value.bits); }

template <typename T>
__device__ inline T rounded(float value) {
  if constexpr (std::is_same_v<T, float>) return value;
  else return BFloat16{bf16_from_float(value)};
}

/// Calls function(std::type_identity<T>) for the storage type of `dtype`, f32 or bf16.
template <typename Function>
void visit_stored(DType dtype, const Function& function) {
  if (dtype == DType::f32) function(std::type_identity<float>{});
  else function(std::type_identity<BFloat16>{});
}

}  // namespace spillway::kernels::cuda
