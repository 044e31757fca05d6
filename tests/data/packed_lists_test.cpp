// SPDX-License-Identifier: Apache-2.0
#include "data/packed_lists.hpp"

#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace spillway::data {
namespace {

using testing::ElementsAre;

TEST(PackedLists, Index_GivesEachListAsAppended) {
  PackedLists<std::int32_t> lists;
  lists.append(std::vector<std::int32_t>{1, 2, 3});
  lists.append(std::vector<std::int32_t>{});
  lists.append(std::vector<std::int32_t>{4});
  lists.shrink();

  EXPECT_EQ(lists.size(), 3);
  EXPECT_THAT(lists[0], ElementsAre(1, 2, 3));
  EXPECT_TRUE(lists[1].empty());
  EXPECT_THAT(lists[2], ElementsAre(4));
}

TEST(PackedLists, Bytes_AfterShrinking_AreValuesAndEnds) {
  PackedLists<std::int32_t> lists;
  for (int i = 0; i < 5; ++i) lists.append(std::vector<std::int32_t>{1, 2, 3});

  lists.shrink();

  EXPECT_EQ(lists.bytes(), 5 * (3 * 4 + 8));
}

}  // namespace
}  // namespace spillway::data
