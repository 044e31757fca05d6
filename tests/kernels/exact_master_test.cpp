// SPDX-License-Identifier: Apache-2.0
#include "kernels/exact_master.hpp"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "core/dtype.hpp"

namespace spillway::kernels {
namespace {

std::uint32_t bits_of(float value) { return std::bit_cast<std::uint32_t>(value); }

TEST(ExactMaster, OfEveryPatternAtTheEdgesOfEveryExponent_ComesBack) {
  for (std::uint32_t high = 0; high < 0x10000U; ++high) {
    if ((high & 0x7F80U) == 0x7F80U) continue;  // infinities and NaN
    for (const std::uint32_t low : {0x0000U, 0x0001U, 0x1234U, 0x7FFEU, 0x7FFFU, 0x8000U, 0x8001U, 0xFFFEU, 0xFFFFU}) {
      const float value = std::bit_cast<float>((high << 16) | low);

      ASSERT_EQ(bits_of(join(split(value))), bits_of(value)) << high << " " << low;
    }
  }
}

TEST(ExactMaster, OfEveryLowHalf_ComesBack) {
  for (const std::uint32_t high : {0x0000U, 0x0001U, 0x007FU, 0x3F80U, 0x7F7FU, 0x8000U, 0xBFFFU, 0xFF7FU})
    for (std::uint32_t low = 0; low < 0x10000U; ++low) {
      const float value = std::bit_cast<float>((high << 16) | low);

      ASSERT_EQ(bits_of(join(split(value))), bits_of(value)) << high << " " << low;
    }
}

TEST(ExactMaster, TheWeight_IsTheNearestBf16_HalvesAwayFromZero) {
  EXPECT_EQ(split(1.0F).weight, 0x3F80U);
  EXPECT_EQ(split(1.0F).master, 0);
  EXPECT_EQ(split(std::bit_cast<float>(0x3F807FFFU)).weight, 0x3F80U);
  EXPECT_EQ(split(std::bit_cast<float>(0x3F807FFFU)).master, 32767);
  EXPECT_EQ(split(std::bit_cast<float>(0x3F808000U)).weight, 0x3F81U);
  EXPECT_EQ(split(std::bit_cast<float>(0x3F808000U)).master, -32768);
  EXPECT_EQ(split(std::bit_cast<float>(0xBF808000U)).weight, 0xBF81U);
  EXPECT_EQ(split(std::bit_cast<float>(0x3FFFFFFFU)).weight, 0x4000U) << "the carry reaches the exponent";
  EXPECT_EQ(split(std::bit_cast<float>(0x3FFFFFFFU)).master, -1);
  EXPECT_EQ(split(std::bit_cast<float>(0x007FFFFFU)).weight, 0x0080U) << "the largest denormal becomes normal";
  EXPECT_EQ(split(-0.0F).weight, 0x8000U);
  EXPECT_EQ(split(-0.0F).master, 0);
}

TEST(ExactMaster, TheWeight_IsNowhereFartherAwayThanRoundingToEven) {
  for (std::uint32_t pattern = 0; pattern < 0x7F7F0000U; pattern += 0x2F1D) {
    const float value = std::bit_cast<float>(pattern);
    const double ours =
        std::abs(static_cast<double>(float_from_bf16(split(value).weight)) - static_cast<double>(value));
    const double even =
        std::abs(static_cast<double>(float_from_bf16(bf16_from_float(value))) - static_cast<double>(value));

    ASSERT_EQ(ours, even) << pattern;
  }
}

TEST(ExactMaster, ABf16Number_HasNoRest) {
  for (std::uint32_t pattern = 0; pattern < 0x10000U; ++pattern) {
    if ((pattern & 0x7F80U) == 0x7F80U) continue;
    const SplitFloat parts = split(float_from_bf16(static_cast<std::uint16_t>(pattern)));

    ASSERT_EQ(parts.weight, pattern);
    ASSERT_EQ(parts.master, 0);
  }
}

}  // namespace
}  // namespace spillway::kernels
