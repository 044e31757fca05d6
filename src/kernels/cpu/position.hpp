// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "core/error.hpp"
#include "core/tensor_view.hpp"

namespace spillway::kernels::cpu {

/// The position that an op of generation is at. \throws Error if the caches have no such place
[[nodiscard]] inline std::int64_t position_of(const ConstTensorView& position, std::int64_t capacity, const char* op) {
  const std::int64_t found = position.as<std::int32_t>().front();
  if (found < 0 || found >= capacity)
    throw Error(std::string(op) + ": a position below the capacity of " + std::to_string(capacity) +
                " is needed, found " + std::to_string(found));
  return found;
}

}  // namespace spillway::kernels::cpu
