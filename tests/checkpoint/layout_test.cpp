// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/layout.hpp"

#include <gmock/gmock.h>

namespace spillway::checkpoint {
namespace {

using Extents = std::vector<std::int64_t>;

TEST(Layout, NamesAreThoseOfTheFormat) {
  EXPECT_EQ(step_name(123), "step-000000123");
  EXPECT_EQ(rank_file_name(0, 2), "rank-00000-of-00002.h5");
  EXPECT_EQ(dataset_name("exp_avg", 7), "/exp_avg/unit-007");
  EXPECT_EQ(hash_dataset_name("exp_avg", 7), "/hash/exp_avg/unit-007");
}

TEST(Layout, OnlyACommittedFolderHasAStep) {
  EXPECT_EQ(step_of_name("step-000000123"), 123);
  EXPECT_EQ(step_of_name("step-12345678901"), 12345678901);
  for (const char* name :
       {"step-123", "step-000000123.tmp", "step-000000123.old", "step-", "step-00000012x", "step--00000001", "LATEST"})
    EXPECT_EQ(step_of_name(name), std::nullopt) << name;
}

TEST(Layout, DatasetsFillWholeAlignments) {
  EXPECT_EQ(dataset_elements(256), 1024);
  EXPECT_EQ(dataset_elements(1024), 1024);
  EXPECT_EQ(dataset_elements(1280), 2048);
}

TEST(Boxes, AMatrixRangeIsPartOfARowWholeRowsPartOfARow) {
  const auto result = boxes({10, 7}, 5, 31);

  ASSERT_EQ(result.size(), 3U);
  EXPECT_EQ(result[0].start, (Extents{0, 5}));
  EXPECT_EQ(result[0].count, (Extents{1, 2}));
  EXPECT_EQ(result[1].start, (Extents{1, 0}));
  EXPECT_EQ(result[1].count, (Extents{3, 7}));
  EXPECT_EQ(result[2].start, (Extents{4, 0}));
  EXPECT_EQ(result[2].count, (Extents{1, 3}));
}

TEST(Boxes, ARangeInsideOneRowAndAVectorAreOneBlock) {
  EXPECT_EQ(boxes({10, 7}, 15, 18).size(), 1U);
  EXPECT_EQ(boxes({100}, 15, 18).size(), 1U);
  EXPECT_EQ(boxes({10, 7}, 0, 70).size(), 1U);
  EXPECT_EQ(boxes(Shape{}, 0, 1).size(), 1U);
  EXPECT_TRUE(boxes({10, 7}, 4, 4).empty());
}

TEST(Boxes, CoverAnyRangeOfThreeAxesInOrder) {
  const Shape shape{3, 4, 5};
  for (std::int64_t begin = 0; begin < 60; ++begin) {
    for (std::int64_t end = begin + 1; end <= 60; ++end) {
      std::int64_t next = begin;
      for (const Box& box : boxes(shape, begin, end)) {
        std::int64_t inside = 0;
        for (std::int64_t i = 0; i < box.count[0]; ++i)
          for (std::int64_t j = 0; j < box.count[1]; ++j)
            for (std::int64_t k = 0; k < box.count[2]; ++k, ++inside)
              ASSERT_EQ(((box.start[0] + i) * 4 + box.start[1] + j) * 5 + box.start[2] + k, next++);
        ASSERT_EQ(inside, box.elements);
      }
      ASSERT_EQ(next, end) << begin;
    }
  }
}

}  // namespace
}  // namespace spillway::checkpoint
