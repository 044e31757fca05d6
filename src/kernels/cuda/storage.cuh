// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <type_traits>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "core/error.hpp"
#include "core/tensor_view.hpp"

namespace spillway::kernels::cuda {

/// What activations and weights are in device memory: float, __nv_bfloat16 or __half. Arithmetic is in fp32 all the same: a value is
/// widened when it is read and rounded once, to nearest even, when it is stored. Nothing saturates: what is too large for __half
/// becomes infinity, which is how an overflow is noticed.
__device__ inline float widen(float value) { return value; }
__device__ inline float widen(__nv_bfloat16 value) { return __bfloat162float(value); }
__device__ inline float widen(__half value) { return __half2float(value); }

template <typename T>
__device__ inline T narrow(float value) {
  if constexpr (std::is_same_v<T, float>) {
    return value;
  } else if constexpr (std::is_same_v<T, __half>) {
    return __float2half_rn(value);
  } else {
    return __float2bfloat16_rn(value);
  }
}

/// The value that memory of type T would give back.
template <typename T>
__device__ inline float as_stored(float value) {
  return widen(narrow<T>(value));
}

/// Calls task(std::type_identity<T>()) on the host.
template <typename Task>
void visit_storage(DType dtype, const Task& task) {
  switch (dtype) {
    case DType::f32: return task(std::type_identity<float>());
    case DType::bf16: return task(std::type_identity<__nv_bfloat16>());
    case DType::f16: return task(std::type_identity<__half>());
    default: throw Error("activations are f32, bf16 or f16");
  }
}

/// What a branch is that is added to the residual stream, around weights of T: kernels::branch_dtype.
template <typename T>
using BranchOf = std::conditional_t<std::is_same_v<T, __nv_bfloat16>, T, float>;

/// The elements of a tensor, null if it is not given. Shape and dtype have been checked (checks.hpp).
template <typename T>
[[nodiscard]] const T* elements(const ConstTensorView& view) {
  return reinterpret_cast<const T*>(view.data());
}
template <typename T>
[[nodiscard]] T* elements(const TensorView& view) {
  return reinterpret_cast<T*>(view.data());
}

}  // namespace spillway::kernels::cuda
