// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <vector>

#include "core/tensor_view.hpp"

namespace spillway::kernels::test {

/// The vector's elements as a tensor, which lives as long as the vector's memory.
template <typename T>
ConstTensorView view(const std::vector<T>& values, const Shape& shape) {
  return {std::span<const T>(values), shape};
}
template <typename T>
TensorView writable(std::vector<T>& values, const Shape& shape) {
  return {std::span(values), shape};
}

}  // namespace spillway::kernels::test
