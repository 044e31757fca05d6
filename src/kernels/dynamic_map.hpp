// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>

#include "kernels/optimizer_state.hpp"

namespace spillway::kernels {

/// The 256 numbers, ascending, that a code of an int8 state stands for, times the block's scale: the dynamic map of Dettmers et al.,
/// "8-bit Optimizers via Block-wise Quantization" (2021), as bitsandbytes' create_dynamic_map makes it. Seven decades, i = 0 ... 6:
///   10^(i - 6) (0.1 + 0.9 (k + 1/2) / n),  k = 0 ... n - 1,  n = 2^i with signs, 2^(i + 1) without
/// with both signs or with plus only, and 0 and 1.
[[nodiscard]] const std::array<float, 256>& dynamic_map(StateSign sign);

/// How x in [-1, 1] becomes the code whose number is nearest (the smaller of two at the same distance), by two look-ups. One
/// difference: without signs what is above 0 never becomes 0, since a second moment of 0 would be divided by.
struct DynamicCodes {
  /// Cells of numbers with the same exponent and first 7 bits of fraction: from 2^-23 (and all below) to 1.
  static constexpr std::int32_t kLowestCell = (127 - 23) << 7;
  static constexpr std::int32_t kCells = (23 << 7) + 1;

  std::array<std::int32_t, kCells> first;  // magnitude of the cell's least number, counted from that of 0
  std::array<float, 256> above;            // magnitude m becomes m + 1 above this
  std::int32_t zero;                       // code of 0
  std::int32_t largest_negative;           // magnitudes below 0
  std::array<float, 256> map;              // dynamic_map
};

[[nodiscard]] const DynamicCodes& dynamic_codes(StateSign sign);

}  // namespace spillway::kernels
