// SPDX-License-Identifier: Apache-2.0
#include "kernels/relative_position.hpp"

#include <gmock/gmock.h>

#include "core/error.hpp"

namespace spillway::kernels {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

constexpr RelativeBuckets kEncoder{.count = 32, .bidirectional = true, .max_distance = 128};
constexpr RelativeBuckets kDecoder{.count = 32, .bidirectional = false, .max_distance = 128};

TEST(RelativePosition, NearDistancesHaveBucketsOfTheirOwn) {
  EXPECT_THAT(relative_bucket_table(-3, 3, kEncoder), ElementsAre(3, 2, 1, 0, 17, 18, 19));
  EXPECT_THAT(relative_bucket_table(-3, 3, kDecoder), ElementsAre(3, 2, 1, 0, 0, 0, 0));
}

TEST(RelativePosition, FarDistancesShareBucketsOnALogarithmicScale) {
  // Where a bucket begins, computed with Hugging Face's T5: 8 exact buckets, then 2 per doubling; 16 exact, then 16 for
  // 3 doublings.
  const std::vector<std::pair<std::int64_t, std::int64_t>> encoder = {
      {-7, 7},   {-8, 8},   {-11, 8},  {-12, 9},  {-15, 9},   {-16, 10},   {-22, 10}, {-23, 11}, {-31, 11},
      {-32, 12}, {-64, 14}, {-90, 14}, {-91, 15}, {-128, 15}, {-5000, 15}, {8, 24},   {91, 31},  {5000, 31}};
  for (const auto& [distance, bucket] : encoder) EXPECT_EQ(relative_bucket(distance, kEncoder), bucket) << distance;
  const std::vector<std::pair<std::int64_t, std::int64_t>> decoder = {{-15, 15},  {-16, 16},  {-18, 16},  {-19, 17},
                                                                      {-20, 17},  {-21, 18},  {-32, 21},  {-64, 26},
                                                                      {-112, 30}, {-113, 31}, {-128, 31}, {-5000, 31}};
  for (const auto& [distance, bucket] : decoder) EXPECT_EQ(relative_bucket(distance, kDecoder), bucket) << distance;
}

TEST(RelativePosition, OtherTableSizesFollowTheSameFormula) {
  const RelativeBuckets small{.count = 8, .bidirectional = true, .max_distance = 16};

  // 4 each way: 0 and 1 exact, then 2 + int(log(r / 2) / log(8) · 2).
  EXPECT_THAT(relative_bucket_table(-8, 8, small), ElementsAre(3, 3, 3, 2, 2, 2, 2, 1, 0, 5, 6, 6, 6, 6, 7, 7, 7));
}

TEST(RelativePosition, TableHoldsEachDistanceInOrder) {
  const std::vector<std::int32_t> table = relative_bucket_table(-300, 300, kEncoder);

  ASSERT_EQ(table.size(), 601U);
  for (std::int64_t d = -300; d <= 300; ++d)
    EXPECT_EQ(table[static_cast<std::size_t>(d + 300)], relative_bucket(d, kEncoder));
}

TEST(RelativePosition, RefusesSettingsThatTheFormulaDoesNotDefine) {
  EXPECT_THAT([] { (void)relative_bucket(0, {.count = 2, .bidirectional = true, .max_distance = 128}); },
              ThrowsMessage<Error>(HasSubstr("at least 4 buckets")));
  EXPECT_THAT([] { (void)relative_bucket(0, {.count = 32, .bidirectional = false, .max_distance = 16}); },
              ThrowsMessage<Error>(HasSubstr("distance above 16")));
}

}  // namespace
}  // namespace spillway::kernels
