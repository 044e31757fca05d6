// SPDX-License-Identifier: Apache-2.0
#include "core/philox.hpp"

#include <cmath>
#include <set>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace spillway {
namespace {

using testing::ElementsAre;

/// philox4x32-10 of Random123's kat_vectors.
TEST(Philox, GivesThePublishedNumbers) {
  EXPECT_THAT(Philox::draw(0, {0, 0, 0, 0}), ElementsAre(0x6627e8d5U, 0xe169c58dU, 0xbc57ac4cU, 0x9b00dbd8U));
  EXPECT_THAT(Philox::draw(0xffffffffffffffffU, {0xffffffffU, 0xffffffffU, 0xffffffffU, 0xffffffffU}),
              ElementsAre(0x408f276dU, 0x41c83b0eU, 0xa20bc7c6U, 0x6d5451fdU));
  EXPECT_THAT(Philox::draw(0x299f31d0a4093822U, {0x243f6a88U, 0x85a308d3U, 0x13198a2eU, 0x03707344U}),
              ElementsAre(0xd16cfe09U, 0x94fdccebU, 0x5001e420U, 0x24126ea1U));
}

TEST(MixKey, TellsNeighboursApart) {
  std::set<std::uint64_t> keys;
  for (std::uint64_t seed = 0; seed < 100; ++seed)
    for (std::uint64_t step = 0; step < 100; ++step) keys.insert(mix_key(seed, step));

  EXPECT_EQ(keys.size(), 10000U);
}

TEST(PhiloxStream, IsTheDrawsOfItsCountersOneAfterTheOther) {
  PhiloxStream stream(5, 9);
  const auto first = Philox::draw(5, {0, 0, 9, 0});
  const auto second = Philox::draw(5, {1, 0, 9, 0});

  for (const std::uint32_t expected : first) EXPECT_EQ(stream.next(), expected);
  for (const std::uint32_t expected : second) EXPECT_EQ(stream.next(), expected);
}

TEST(PhiloxStream, SkipLeavesOutDraws) {
  PhiloxStream whole(5, 9), part(5, 9, 7);
  for (int i = 0; i < 7; ++i) whole.next();

  for (int i = 0; i < 10; ++i) EXPECT_EQ(part.next(), whole.next());
}

TEST(PhiloxStream, OtherKeysAndStreamsGiveOtherNumbers) {
  EXPECT_NE(PhiloxStream(5, 9).next(), PhiloxStream(6, 9).next());
  EXPECT_NE(PhiloxStream(5, 9).next(), PhiloxStream(5, 10).next());
  EXPECT_NE(PhiloxStream(5, 9).next(), PhiloxStream(5, 9 + (std::uint64_t{1} << 32)).next());
}

TEST(PhiloxStream, BelowIsUniformAndNeverReachesItsBound) {
  PhiloxStream stream(1, 2);
  std::vector<int> counts(6);
  for (int i = 0; i < 60000; ++i) {
    const std::uint64_t value = stream.below(6);
    ASSERT_LT(value, 6U);
    ++counts[value];
  }

  for (const int count : counts) EXPECT_NEAR(count, 10000, 500);  // five standard deviations are 456
  for (int i = 0; i < 10; ++i) EXPECT_EQ(stream.below(1), 0U);
}

TEST(PhiloxStream, BelowReachesTheWholeRangeOfLargeBounds) {
  PhiloxStream stream(1, 2);
  const std::uint64_t bound = (std::uint64_t{1} << 63) + 1;  // half of all draws are refused
  bool high = false, low = false;
  for (int i = 0; i < 100; ++i) {
    const std::uint64_t value = stream.below(bound);
    ASSERT_LT(value, bound);
    (value > bound / 2 ? high : low) = true;
  }

  EXPECT_TRUE(high);
  EXPECT_TRUE(low);
}

TEST(PhiloxStream, NormalHasMeanZeroVarianceOneAndIsFinite) {
  PhiloxStream stream(3, 4);
  constexpr int kCount = 100000;
  double sum = 0, squares = 0, fourth = 0;
  for (int i = 0; i < kCount; ++i) {
    const double value = stream.normal();
    ASSERT_TRUE(std::isfinite(value));
    sum += value;
    squares += value * value;
    fourth += value * value * value * value;
  }

  EXPECT_NEAR(sum / kCount, 0.0, 0.015);
  EXPECT_NEAR(squares / kCount, 1.0, 0.025);
  EXPECT_NEAR(fourth / kCount, 3.0, 0.2);
}

TEST(PhiloxStream, NormalNumberIUsesDraws2iAnd2iPlus1) {
  PhiloxStream whole(3, 4), part(3, 4, 10);
  for (int i = 0; i < 5; ++i) whole.normal();

  EXPECT_EQ(part.normal(), whole.normal());
}

}  // namespace
}  // namespace spillway
