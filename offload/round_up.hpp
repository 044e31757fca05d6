// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

namespace spillway::offload {

/// The least multiple of `alignment` that is not less than `bytes`.
[[nodiscard]] constexpr std::size_t round_up(std::size_t bytes, std::size_t alignment) {
  return (bytes + alignment - 1) / alignment * alignment;
}

}  // namespace spillway::offload
