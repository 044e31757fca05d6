// SPDX-License-Identifier: Apache-2.0
#include "core/shard_map.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.hpp"
#include "core/round_up.hpp"

namespace spillway {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

/// Unit 0 ends at 1,324, unit 1 at 70,000.
std::vector<TensorSpec> tensors() {
  return {{.name = "wo", .shape = {300}, .unit = 0, .offset = 1024},
          {.name = "q", .shape = {4, 250}, .unit = 0, .offset = 0},
          {.name = "lm_head", .shape = {700, 100}, .unit = 1, .offset = 0}};
}

std::string message_of(const std::vector<TensorSpec>& layout, int ranks) {
  try {
    const ShardMap map(layout, ranks);
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

class ShardMapOverRanks : public testing::TestWithParam<int> {};

TEST_P(ShardMapOverRanks, ShardsAreEvenAlignedAndCoverTheUnitInRankOrder) {
  const int ranks = GetParam();
  const ShardMap map(tensors(), ranks);

  for (int unit = 0; unit < map.units(); ++unit) {
    std::int64_t end = 0;
    for (int rank = 0; rank < ranks; ++rank) {
      const Range shard = map.shard(unit, rank);
      EXPECT_EQ(shard.begin, end);
      EXPECT_EQ(shard.size(), map.shard_elements(unit));
      EXPECT_EQ(shard.size() % kShardAlignment, 0);
      end = shard.end;
    }
    EXPECT_EQ(end, map.unit_elements(unit));
    const std::int64_t content = unit == 0 ? 1324 : 70000;
    EXPECT_GE(end, content);
    EXPECT_LT(end, content + kShardAlignment * ranks);
  }
}

TEST_P(ShardMapOverRanks, EveryElementOfEveryTensorIsInExactlyOneShard) {
  const int ranks = GetParam();
  const ShardMap map(tensors(), ranks);
  std::vector<std::vector<int>> owners;
  for (const TensorSpec& tensor : map.tensors()) owners.emplace_back(tensor.shape.elements(), 0);

  for (int unit = 0; unit < map.units(); ++unit)
    for (int rank = 0; rank < ranks; ++rank) {
      const Range shard = map.shard(unit, rank);
      for (const TensorPiece& piece : map.pieces(unit, shard)) {
        const TensorSpec& tensor = map.tensors()[static_cast<std::size_t>(piece.tensor)];
        EXPECT_EQ(tensor.unit, unit);
        EXPECT_EQ(tensor.offset + piece.tensor_begin, shard.begin + piece.range_begin);
        EXPECT_LE(piece.range_begin + piece.count, shard.size());
        for (std::int64_t i = 0; i < piece.count; ++i)
          ++owners[static_cast<std::size_t>(piece.tensor)].at(static_cast<std::size_t>(piece.tensor_begin + i));
      }
    }

  for (const auto& owner : owners) EXPECT_THAT(owner, testing::Each(1));
}

TEST_P(ShardMapOverRanks, NormBlocksCoverTheShardAndNoneIsTooLong) {
  const ShardMap map(tensors(), GetParam());

  for (int unit = 0; unit < map.units(); ++unit) {
    std::int64_t end = 0;
    for (const Range& block : map.norm_blocks(unit)) {
      EXPECT_EQ(block.begin, end);
      EXPECT_GT(block.size(), 0);
      EXPECT_LE(block.size(), kNormBlock);
      end = block.end;
    }
    EXPECT_EQ(end, map.shard_elements(unit));
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, ShardMapOverRanks, testing::Values(1, 2, 3, 8, 1000));

TEST(ShardMap, SortsTensorsByUnitAndOffset) {
  const ShardMap map(tensors(), 2);

  std::vector<std::string> names;
  for (const TensorSpec& tensor : map.tensors()) names.push_back(tensor.name);
  EXPECT_THAT(names, ElementsAre("q", "wo", "lm_head"));
}

TEST(ShardMap, KnownNumbers) {
  const ShardMap map(tensors(), 2);

  EXPECT_EQ(map.units(), 2);
  EXPECT_EQ(map.parameters(), 1000 + 300 + 70000);
  EXPECT_EQ(map.unit_elements(0), 1536);
  EXPECT_EQ(map.shard(0, 1), (Range{768, 1536}));
  EXPECT_EQ(map.unit_elements(1), 70144);
  EXPECT_EQ(map.rank_elements(), 768 + 35072);
  EXPECT_EQ(ShardMap(tensors(), 1).norm_blocks(1).size(), 2U);
}

TEST(ShardMap, PiecesOfARange_LeaveOutPaddingAndGaps) {
  const ShardMap map(tensors(), 2);

  const auto pieces = map.pieces(0, {990, 1030});

  ASSERT_EQ(pieces.size(), 2U);
  EXPECT_EQ(pieces[0].tensor, 0);
  EXPECT_EQ(pieces[0].tensor_begin, 990);
  EXPECT_EQ(pieces[0].range_begin, 0);
  EXPECT_EQ(pieces[0].count, 10);
  EXPECT_EQ(pieces[1].tensor, 1);
  EXPECT_EQ(pieces[1].tensor_begin, 0);
  EXPECT_EQ(pieces[1].range_begin, 34);
  EXPECT_EQ(pieces[1].count, 6);
  EXPECT_TRUE(map.pieces(0, {1324, 1536}).empty());
  EXPECT_TRUE(map.pieces(0, {1000, 1024}).empty());
}

TEST(ShardMap, UnitsWithoutTensorsAreEmptyAndTheOthersKeepTheirNumbers) {
  const ShardMap map(
      {{.name = "b", .shape = {600}, .unit = 3, .offset = 0}, {.name = "a", .shape = {3}, .unit = 1, .offset = 0}}, 2,
      6);

  EXPECT_EQ(map.units(), 6);
  for (const int unit : {0, 2, 4, 5}) {
    EXPECT_EQ(map.shard_elements(unit), 0);
    EXPECT_EQ(map.unit_elements(unit), 0);
    EXPECT_EQ(map.shard(unit, 1), (Range{0, 0}));
    EXPECT_TRUE(map.pieces(unit, {0, 1000}).empty());
    EXPECT_TRUE(map.norm_blocks(unit).empty());
  }
  EXPECT_EQ(map.shard(1, 1), (Range{256, 512}));
  EXPECT_EQ(map.pieces(1, {0, 1000}).at(0).tensor, 0);
  EXPECT_EQ(map.shard(3, 1), (Range{512, 1024}));
  EXPECT_EQ(map.pieces(3, {0, 1000}).at(0).tensor, 1);
  EXPECT_EQ(map.rank_elements(), 256 + 512);
  EXPECT_EQ(ShardMap({}, 2).units(), 0);
}

TEST(ShardMap, WrongLayoutsAreRefusedByName) {
  EXPECT_THAT(message_of({{.name = "a", .shape = {300}, .unit = 0, .offset = 0},
                          {.name = "b", .shape = {3}, .unit = 0, .offset = 256}},
                         1),
              HasSubstr("tensor b: offset 256"));
  EXPECT_THAT(message_of({{.name = "a", .shape = {3}, .unit = -1, .offset = 0}}, 1),
              HasSubstr("tensor a: unit -1, expected 0 to 4095"));
  EXPECT_THAT(message_of({{.name = "a", .shape = {3}, .unit = kMostUnits, .offset = 0}}, 1), HasSubstr("unit 4096"));
  EXPECT_THAT(message_of({{.name = "a", .shape = {3}, .unit = 0, .offset = -256}}, 1), HasSubstr("tensor a"));
  EXPECT_THAT(message_of(tensors(), 0), HasSubstr("at least one rank"));
}

TEST(RoundUp, GivesTheNextMultiple) {
  EXPECT_EQ(round_up(0, 256), 0);
  EXPECT_EQ(round_up(1, 256), 256);
  EXPECT_EQ(round_up(256, 256), 256);
  EXPECT_EQ(round_up(257, 256), 512);
}

}  // namespace
}  // namespace spillway
