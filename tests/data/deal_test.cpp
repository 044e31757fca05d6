// SPDX-License-Identifier: Apache-2.0
#include "data/deal.hpp"

#include <algorithm>
#include <numeric>
#include <tuple>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.hpp"
#include "core/philox.hpp"

namespace spillway::data {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(Deal, ToOneSlot_SortsByLengthAndKeepsEqualOnesInOrder) {
  const std::vector<std::int64_t> lengths{3, 9, 3, 5, 9};

  EXPECT_THAT(deal(lengths, 1, 1), ElementsAre(ElementsAre(ElementsAre(1, 4, 3, 0, 2))));
}

TEST(Deal, ToRanks_GoesToAndFro) {
  const std::vector<std::int64_t> lengths{60, 50, 40, 30, 20, 10};

  EXPECT_THAT(deal(lengths, 2, 1), ElementsAre(ElementsAre(ElementsAre(0, 3, 4)), ElementsAre(ElementsAre(1, 2, 5))));
}

TEST(Deal, ToRanksAndMicroBatches_WalksTheSlotsAsASnake) {
  const std::vector<std::int64_t> lengths{80, 70, 60, 50, 40, 30, 20, 10};

  EXPECT_THAT(deal(lengths, 2, 2), ElementsAre(ElementsAre(ElementsAre(0, 7), ElementsAre(3, 4)),
                                               ElementsAre(ElementsAre(1, 6), ElementsAre(2, 5))));
}

TEST(Deal, OfFewSamples_ServesEveryRankBeforeASecondMicroBatch) {
  const auto dealt = deal(std::vector<std::int64_t>{5, 4, 3}, 3, 2);

  for (const auto& rank : dealt) {
    EXPECT_EQ(rank[0].size(), 1U);
    EXPECT_THAT(rank[1], IsEmpty());
  }
}

TEST(Deal, OfNothing_GivesEmptySlots) {
  EXPECT_THAT(deal({}, 2, 1), ElementsAre(ElementsAre(IsEmpty()), ElementsAre(IsEmpty())));
}

TEST(Deal, ToNoRankOrMicroBatch_IsRefused) {
  EXPECT_THROW((void)deal(std::vector<std::int64_t>{1}, 0, 1), Error);
  EXPECT_THROW((void)deal(std::vector<std::int64_t>{1}, 1, 0), Error);
}

class DealShape : public testing::TestWithParam<std::tuple<int, int, int>> {};

TEST_P(DealShape, GivesEverySampleOnceInEvenSlotsOfEqualWork) {
  const auto [samples, ranks, micro_batches] = GetParam();
  PhiloxStream stream(1, 2);
  std::vector<std::int64_t> lengths(static_cast<std::size_t>(samples));
  for (auto& length : lengths) length = 1 + static_cast<std::int64_t>(stream.below(200));

  const auto dealt = deal(lengths, ranks, micro_batches);

  const auto most = static_cast<std::size_t>((samples + ranks * micro_batches - 1) / (ranks * micro_batches));
  std::vector<std::int32_t> seen;
  std::vector<std::int64_t> work;
  ASSERT_EQ(dealt.size(), static_cast<std::size_t>(ranks));
  for (const auto& rank : dealt) {
    ASSERT_EQ(rank.size(), static_cast<std::size_t>(micro_batches));
    std::int64_t sum = 0;
    for (const auto& slot : rank) {
      EXPECT_LE(slot.size(), most);
      EXPECT_GE(slot.size() + 1, most) << "counts differ by one at most";
      seen.insert(seen.end(), slot.begin(), slot.end());
      for (const auto index : slot) sum += lengths[static_cast<std::size_t>(index)];
    }
    work.push_back(sum);
  }
  std::ranges::sort(seen);
  std::vector<std::int32_t> all(lengths.size());
  std::iota(all.begin(), all.end(), 0);
  EXPECT_EQ(seen, all);
  // In a snake two ranks never differ by more than the longest sample.
  EXPECT_LE(*std::ranges::max_element(work) - *std::ranges::min_element(work), *std::ranges::max_element(lengths));
}

INSTANTIATE_TEST_SUITE_P(Shapes, DealShape,
                         testing::Combine(testing::Values(1, 7, 64, 101), testing::Values(1, 2, 3, 8),
                                          testing::Values(1, 2, 5)));

}  // namespace
}  // namespace spillway::data
