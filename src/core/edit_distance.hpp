// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string_view>

namespace spillway {

/// Letters to insert, delete, replace or swap with their neighbour to make one word of the other: for "did you mean".
[[nodiscard]] std::size_t edit_distance(std::string_view left, std::string_view right);

}  // namespace spillway
