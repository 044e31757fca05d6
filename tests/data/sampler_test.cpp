// SPDX-License-Identifier: Apache-2.0
#include "data/sampler.hpp"

#include <algorithm>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.hpp"
#include "data/text_folder.hpp"

namespace spillway::data {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

/// The samples of one epoch in the order drawn.
std::vector<std::int64_t> epoch_order(const BatchSampler& sampler, std::int64_t epoch) {
  std::vector<std::int64_t> order;
  for (Cursor cursor{epoch, 0}; cursor.epoch == epoch;) {
    const auto batch = sampler.next(cursor);
    order.insert(order.end(), batch.samples.begin(), batch.samples.end());
    cursor = batch.next;
  }
  return order;
}

TEST(BatchSampler, Next_WithoutShuffle_GivesFileOrderAndASmallerLastBatch) {
  const BatchSampler sampler(5, 2, 42, false);

  const auto first = sampler.next({});
  const auto last = sampler.next({0, 4});

  EXPECT_EQ(sampler.steps_per_epoch(), 3);
  EXPECT_THAT(first.samples, ElementsAre(0, 1));
  EXPECT_EQ(first.next, (Cursor{0, 2}));
  EXPECT_THAT(last.samples, ElementsAre(4));
  EXPECT_EQ(last.next, (Cursor{1, 0}));
  EXPECT_THAT(epoch_order(sampler, 3), ElementsAre(0, 1, 2, 3, 4));
}

TEST(BatchSampler, Next_WithFullLastBatch_BeginsTheNextEpoch) {
  const BatchSampler sampler(4, 2, 42, false);

  EXPECT_EQ(sampler.steps_per_epoch(), 2);
  EXPECT_EQ(sampler.next({0, 2}).next, (Cursor{1, 0}));
}

TEST(BatchSampler, Next_WithBatchLargerThanData_GivesAllOfIt) {
  const BatchSampler sampler(3, 100, 42, false);

  EXPECT_EQ(sampler.steps_per_epoch(), 1);
  EXPECT_THAT(sampler.next({}).samples, ElementsAre(0, 1, 2));
}

TEST(BatchSampler, Epoch_WhenShuffled_HasEverySampleOnce) {
  const BatchSampler sampler(1000, 7, 42, true);
  std::vector<std::int64_t> all(1000);
  std::iota(all.begin(), all.end(), 0);

  auto order = epoch_order(sampler, 0);

  EXPECT_NE(order, all);
  std::ranges::sort(order);
  EXPECT_EQ(order, all);
}

TEST(BatchSampler, Order_DependsOnSeedAndEpochButNotOnBatchSize) {
  const auto order = epoch_order(BatchSampler(50, 8, 1, true), 0);

  EXPECT_EQ(epoch_order(BatchSampler(50, 3, 1, true), 0), order);
  EXPECT_NE(epoch_order(BatchSampler(50, 8, 2, true), 0), order);
  EXPECT_NE(epoch_order(BatchSampler(50, 8, 1, true), 1), order);
}

// A checkpoint keeps only the cursor: another order in a later version would repeat and skip samples after a resume.
TEST(BatchSampler, Order_IsWhatItWasInEarlierVersions) {
  const BatchSampler sampler(8, 8, 42, true);

  EXPECT_THAT(epoch_order(sampler, 0), ElementsAre(4, 5, 6, 7, 0, 2, 1, 3));
  EXPECT_THAT(epoch_order(sampler, 1), ElementsAre(5, 0, 2, 1, 7, 6, 4, 3));
}

TEST(BatchSampler, Next_OfAFreshSamplerAtACursor_ContinuesTheRun) {
  const BatchSampler running(20, 6, 9, true);
  (void)running.next({0, 0});
  const auto expected = running.next({1, 6});

  const auto resumed = BatchSampler(20, 6, 9, true).next({1, 6});

  EXPECT_EQ(resumed.samples, expected.samples);
  EXPECT_EQ(resumed.next, expected.next);
  EXPECT_EQ(running.next({0, 6}).samples, BatchSampler(20, 6, 9, true).next({0, 6}).samples) << "going back works too";
}

TEST(BatchSampler, Bytes_AreThoseOfOneOrder) { EXPECT_EQ(BatchSampler(20, 6, 9, true).bytes(), 160U); }

TEST(BatchSampler, Next_OutsideOfAnEpoch_IsRefused) {
  const BatchSampler sampler(5, 2, 42, true);

  EXPECT_THAT(message_of<DataError>([&] {
                (void)sampler.next({2, 5});
              }),
              HasSubstr("has 5 samples, the data cursor stands at epoch 2, sample 5"));
  EXPECT_THROW((void)sampler.next({0, -1}), DataError);
  EXPECT_THROW((void)sampler.next({-1, 0}), DataError);
}

TEST(BatchSampler, Make_WithoutSamplesOrBatch_IsRefused) {
  EXPECT_THROW(BatchSampler(0, 2, 42, true), ConfigError);
  EXPECT_THROW(BatchSampler(5, 0, 42, true), ConfigError);
}

}  // namespace
}  // namespace spillway::data
