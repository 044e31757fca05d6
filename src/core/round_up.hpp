// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <type_traits>

namespace spillway {

/// Smallest multiple of `multiple` that is not below `value`; both from 0 upwards, and the sum of both fits T.
template <std::integral T>
[[nodiscard]] constexpr T round_up(T value, std::type_identity_t<T> multiple) noexcept {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace spillway
