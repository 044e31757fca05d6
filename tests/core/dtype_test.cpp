// SPDX-License-Identifier: Apache-2.0
#include "core/dtype.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include <gtest/gtest.h>

namespace spillway {
namespace {

struct Format {
  const char* name;
  float (*widen)(std::uint16_t);
  std::uint16_t (*narrow)(float);
  int fraction_bits;
  std::uint16_t infinity;
};

class SixteenBits : public testing::TestWithParam<Format> {};

TEST_P(SixteenBits, EveryPatternMeansWhatTheFormatSays) {
  const Format& format = GetParam();
  const int bias = (1 << (14 - format.fraction_bits)) - 1;
  for (std::uint32_t pattern = 0; pattern < 0x10000U; ++pattern) {
    const float value = format.widen(static_cast<std::uint16_t>(pattern));
    const auto exponent = static_cast<int>((pattern & 0x7fffU) >> format.fraction_bits);
    const auto fraction = static_cast<int>(pattern & ((1U << format.fraction_bits) - 1U));
    ASSERT_EQ(std::signbit(value), (pattern & 0x8000U) != 0) << pattern;
    if ((pattern & 0x7fffU) == format.infinity) {
      ASSERT_TRUE(std::isinf(value)) << pattern;
    } else if ((pattern & 0x7fffU) > format.infinity) {
      ASSERT_TRUE(std::isnan(value)) << pattern;
    } else {
      const int whole = exponent == 0 ? fraction : fraction + (1 << format.fraction_bits);
      ASSERT_EQ(std::fabs(value),
                std::ldexp(static_cast<double>(whole), std::max(exponent, 1) - bias - format.fraction_bits))
          << pattern;
    }
  }
}

TEST_P(SixteenBits, EveryPatternComesBack_AndNaNStaysNaN) {
  const Format& format = GetParam();
  for (std::uint32_t pattern = 0; pattern < 0x10000U; ++pattern) {
    const float value = format.widen(static_cast<std::uint16_t>(pattern));
    const std::uint16_t back = format.narrow(value);
    if (std::isnan(value)) ASSERT_TRUE(std::isnan(format.widen(back))) << pattern;
    else ASSERT_EQ(back, pattern);
  }
}

/// Between two neighbours: just below the middle goes down, just above up, the middle to the even one. The neighbour of
/// the largest number is infinity, as if the range went on.
TEST_P(SixteenBits, EveryGapRoundsToNearestEven) {
  const Format& format = GetParam();
  for (std::uint32_t pattern = 0; pattern < format.infinity; ++pattern) {
    const float low = format.widen(static_cast<std::uint16_t>(pattern));
    const float step = pattern + 1U < format.infinity ? format.widen(static_cast<std::uint16_t>(pattern + 1U)) - low
                                                      : low - format.widen(static_cast<std::uint16_t>(pattern - 1U));
    const float middle = low + step / 2;  // exact: fp32 has at least one bit more
    const auto up = static_cast<std::uint16_t>(pattern + 1U);
    const auto down = static_cast<std::uint16_t>(pattern);
    for (const float sign : {1.0F, -1.0F}) {
      const auto with_sign = [sign](std::uint16_t magnitude) {
        return static_cast<std::uint16_t>(magnitude | (sign < 0 ? 0x8000U : 0U));
      };
      ASSERT_EQ(format.narrow(sign * std::nextafterf(middle, 0.0F)), with_sign(down)) << pattern;
      ASSERT_EQ(format.narrow(sign * middle), with_sign(pattern % 2 == 0 ? down : up)) << pattern;
      ASSERT_EQ(format.narrow(sign * std::nextafterf(middle, std::numeric_limits<float>::infinity())), with_sign(up))
          << pattern;
    }
  }
}

TEST_P(SixteenBits, ExtremesOfFp32) {
  const Format& format = GetParam();
  EXPECT_EQ(format.narrow(std::numeric_limits<float>::max()), format.infinity);
  EXPECT_EQ(format.narrow(-std::numeric_limits<float>::infinity()), 0x8000U | format.infinity);
  EXPECT_EQ(format.narrow(std::numeric_limits<float>::denorm_min()), 0U);
  EXPECT_EQ(format.narrow(-std::numeric_limits<float>::denorm_min()), 0x8000U);
  // A NaN whose payload lies only in the bits that are cut off must not become infinity.
  EXPECT_TRUE(std::isnan(format.widen(format.narrow(std::bit_cast<float>(0x7f800001U)))));
  EXPECT_TRUE(std::isnan(format.widen(format.narrow(std::bit_cast<float>(0xffffffffU)))));
}

INSTANTIATE_TEST_SUITE_P(Formats, SixteenBits,
                         testing::Values(Format{"bf16", float_from_bf16, bf16_from_float, 7, 0x7f80},
                                         Format{"f16", float_from_f16, f16_from_float, 10, 0x7c00}),
                         [](const auto& test) { return test.param.name; });

TEST(DType, SizesAndNames) {
  EXPECT_EQ(size_of(DType::f64), 8U);
  EXPECT_EQ(size_of(DType::i64), 8U);
  EXPECT_EQ(size_of(DType::f32), 4U);
  EXPECT_EQ(size_of(DType::i32), 4U);
  EXPECT_EQ(size_of(DType::bf16), 2U);
  EXPECT_EQ(size_of(DType::f16), 2U);
  EXPECT_EQ(size_of(DType::i16), 2U);
  EXPECT_EQ(size_of(DType::i8), 1U);
  EXPECT_EQ(size_of(DType::u8), 1U);
  EXPECT_EQ(size_of(DType::i16), 2U);
  EXPECT_EQ(name_of(DType::bf16), "bf16");
  EXPECT_EQ(name_of(DType::i16), "i16");
  EXPECT_EQ(name_of(DType::i64), "i64");
  EXPECT_EQ(dtype_of<float>, DType::f32);
  EXPECT_EQ(dtype_of<BFloat16>, DType::bf16);
  EXPECT_EQ(dtype_of<std::int16_t>, DType::i16);
  EXPECT_EQ(dtype_of<std::int32_t>, DType::i32);
  EXPECT_EQ(dtype_of<std::int16_t>, DType::i16);
}

}  // namespace
}  // namespace spillway
