// SPDX-License-Identifier: Apache-2.0
#include "kernels/dynamic_map.hpp"

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

namespace spillway::kernels {
namespace {

TEST(DynamicMap, HasSevenDecades_WithTwiceTheFractionsInEach) {
  const auto& with_signs = dynamic_map(StateSign::either);
  const auto& without = dynamic_map(StateSign::nonnegative);

  EXPECT_TRUE(std::ranges::is_sorted(with_signs));
  EXPECT_TRUE(std::ranges::is_sorted(without));
  for (int decade = 0; decade < 7; ++decade) {
    const double low = std::pow(10.0, decade - 7) * (1 + 1e-6), high = std::pow(10.0, decade - 6) * (1 - 1e-6);
    const auto inside = [&](float number) {
      return static_cast<double>(number) > low && static_cast<double>(number) < high;
    };
    EXPECT_EQ(std::ranges::count_if(with_signs, inside), 1 << decade);
    EXPECT_EQ(std::ranges::count_if(with_signs, [&](float number) { return inside(-number); }), 1 << decade);
    EXPECT_EQ(std::ranges::count_if(without, inside), 2 << decade);
  }
  EXPECT_EQ(with_signs[127], 0.0F);
  EXPECT_EQ(with_signs[255], 1.0F);
  EXPECT_EQ(without[0], 0.0F);
  EXPECT_EQ(without[255], 1.0F);
}

TEST(DynamicMap, ItsNumbers_AreTheMiddlesOfEvenPartsOfADecade) {
  const auto& with_signs = dynamic_map(StateSign::either);
  const auto& without = dynamic_map(StateSign::nonnegative);

  // Worked out by hand: the middle of [0.1, 1] times 1e-6; of its halves; the last of 64 and of 128 parts.
  EXPECT_FLOAT_EQ(with_signs[128], 0.55e-6F);
  EXPECT_FLOAT_EQ(with_signs[126], -0.55e-6F);
  EXPECT_FLOAT_EQ(without[1], 0.325e-6F);
  EXPECT_FLOAT_EQ(without[2], 0.775e-6F);
  EXPECT_FLOAT_EQ(with_signs[254], 0.99296875F);
  EXPECT_FLOAT_EQ(with_signs[0], -0.99296875F);
  EXPECT_FLOAT_EQ(without[254], 0.996484375F);
}

}  // namespace
}  // namespace spillway::kernels
