// SPDX-License-Identifier: Apache-2.0
#include "kernels/dynamic_map.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

namespace spillway::kernels {
namespace {

constexpr int kDecades = 7;

std::array<float, 256> make_map(StateSign sign) {
  const bool with_signs = sign == StateSign::either;
  std::vector<float> numbers = {0.0F, 1.0F};
  for (int decade = 0; decade < kDecades; ++decade) {
    const int count = 1 << (with_signs ? decade : decade + 1);
    for (int k = 0; k < count; ++k) {
      const double number = std::pow(10.0, decade - (kDecades - 1)) * (0.1 + 0.9 * (k + 0.5) / count);
      numbers.push_back(static_cast<float>(number));
      if (with_signs) numbers.push_back(static_cast<float>(-number));
    }
  }
  std::ranges::sort(numbers);
  std::array<float, 256> map{};
  std::ranges::copy(numbers, map.begin());
  return map;
}

float largest_not_above(double number) {
  const auto rounded = static_cast<float>(number);
  return static_cast<double>(rounded) > number ? std::nextafterf(rounded, 0.0F) : rounded;
}

DynamicCodes make_codes(StateSign sign) {
  DynamicCodes codes{};
  codes.map = make_map(sign);
  codes.zero = static_cast<std::int32_t>(std::ranges::find(codes.map, 0.0F) - codes.map.begin());
  codes.largest_negative = codes.zero;
  codes.above.fill(std::numeric_limits<float>::infinity());
  for (std::int32_t magnitude = 0; codes.zero + magnitude < 255; ++magnitude) {
    const auto code = static_cast<std::size_t>(codes.zero + magnitude);
    codes.above[static_cast<std::size_t>(magnitude)] =
        largest_not_above((static_cast<double>(codes.map[code]) + static_cast<double>(codes.map[code + 1])) / 2);
  }
  if (sign == StateSign::nonnegative) codes.above[0] = 0.0F;
  for (std::int32_t cell = 1; cell < DynamicCodes::kCells; ++cell) {
    const auto least = std::bit_cast<float>(static_cast<std::uint32_t>(DynamicCodes::kLowestCell + cell) << 16);
    std::int32_t magnitude = 0;
    while (least > codes.above[static_cast<std::size_t>(magnitude)]) ++magnitude;
    codes.first[static_cast<std::size_t>(cell)] = magnitude;
  }
  return codes;
}

}  // namespace

const std::array<float, 256>& dynamic_map(StateSign sign) { return dynamic_codes(sign).map; }

const DynamicCodes& dynamic_codes(StateSign sign) {
  static const DynamicCodes with_signs = make_codes(StateSign::either);
  static const DynamicCodes without = make_codes(StateSign::nonnegative);
  return sign == StateSign::either ? with_signs : without;
}

}  // namespace spillway::kernels
