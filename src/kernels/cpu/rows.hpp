// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <type_traits>

#include <fmt/format.h>

#include "core/error.hpp"
#include "core/tensor_view.hpp"
#include "kernels/cpu/thread_pool.hpp"

namespace spillway::kernels::cpu {

/// Calls task(std::type_identity<T>()), T what an activation of this dtype is in memory: float or BFloat16.
template <typename Task>
void visit_storage(DType dtype, const Task& task) {
  switch (dtype) {
    case DType::f32: return task(std::type_identity<float>());
    case DType::bf16: return task(std::type_identity<BFloat16>());
    default: throw Error(fmt::format("on the CPU activations are f32 or bf16, found {}", name_of(dtype)));
  }
}

/// The elements of a tensor, null if it is not given. Shape and dtype have been checked (checks.hpp).
template <typename T>
[[nodiscard]] const T* elements(const ConstTensorView& view) {
  return reinterpret_cast<const T*>(view.data());
}
template <typename T>
[[nodiscard]] T* elements(const TensorView& view) {
  return reinterpret_cast<T*>(view.data());
}
[[nodiscard]] inline float as_float(float value) { return value; }
[[nodiscard]] inline float as_float(BFloat16 value) { return float_from_bf16(value.bits); }
[[nodiscard]] inline const float* floats(const ConstTensorView& view) { return elements<float>(view); }
[[nodiscard]] inline float* floats(const TensorView& view) { return elements<float>(view); }
[[nodiscard]] inline const std::int32_t* integers(const ConstTensorView& view) {
  return reinterpret_cast<const std::int32_t*>(view.data());
}

/// Calls task(begin, end) for ranges that cover [0, count), each of `block` items, the last perhaps fewer.
inline void parallel_blocks(ThreadPool& pool, std::int64_t count, std::int64_t block,
                            const std::function<void(std::int64_t begin, std::int64_t end)>& task) {
  pool.parallel_for((count + block - 1) / block,
                    [&](std::int64_t i) { task(i * block, std::min(count, (i + 1) * block)); });
}

/// The same for rows of `width` elements: about 16 Ki elements to a task.
inline void parallel_rows(ThreadPool& pool, std::int64_t rows, std::int64_t width,
                          const std::function<void(std::int64_t begin, std::int64_t end)>& task) {
  parallel_blocks(pool, rows, std::max<std::int64_t>(1, 16384 / std::max<std::int64_t>(1, width)), task);
}

}  // namespace spillway::kernels::cpu
