// SPDX-License-Identifier: Apache-2.0
#include "comm/node_layout.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.hpp"

namespace spillway {
namespace {

using comm::NodeLayout;
using testing::ElementsAre;

TEST(NodeLayout, NumbersNodesInTheOrderOfTheirFirstRanks) {
  const NodeLayout layout(std::vector<int>{40, 7, 40, 7, 7});

  EXPECT_EQ(layout.ranks(), 5);
  EXPECT_EQ(layout.nodes(), 2);
  EXPECT_EQ(layout.node_of(0), 0);
  EXPECT_EQ(layout.node_of(4), 1);
  EXPECT_EQ(layout.local_rank_of(2), 1);
  EXPECT_EQ(layout.local_rank_of(4), 2);
  EXPECT_EQ(layout.ranks_on(0), 2);
  EXPECT_EQ(layout.ranks_on(1), 3);
}

TEST(NodeLayout, WithoutAnythingSaid_IsOneRank) {
  EXPECT_EQ(NodeLayout().ranks(), 1);
  EXPECT_EQ(NodeLayout().ranks_on(0), 1);
}

TEST(NodeLayout, PiecesOfANode_AreNeighboursOfTheSameLocalRank) {
  // Shard 0 of the tensor is pieces 0 and 1, which the first ranks of both nodes have.
  EXPECT_THAT(NodeLayout::filled(2, 3).piece_of_rank(), ElementsAre(0, 2, 4, 1, 3, 5));
  EXPECT_THAT(NodeLayout(std::vector<int>{0, 1, 0, 1}).piece_of_rank(), ElementsAre(0, 1, 2, 3));
}

TEST(NodeLayout, OnOneNodeOrWithOneRankOnEach_PiecesAreInRankOrder) {
  EXPECT_THAT(NodeLayout::filled(1, 3).piece_of_rank(), ElementsAre(0, 1, 2));
  EXPECT_THAT(NodeLayout::filled(3, 1).piece_of_rank(), ElementsAre(0, 1, 2));
}

TEST(NodeLayout, UnevenNodes_HaveNoPieces) {
  const NodeLayout layout(std::vector<int>{0, 0, 1});

  EXPECT_FALSE(layout.even());
  EXPECT_TRUE(NodeLayout::filled(2, 2).even());
  EXPECT_THROW(static_cast<void>(layout.piece_of_rank()), Error);
}

TEST(NodeLayout, WithoutRanks_IsRefused) { EXPECT_THROW(NodeLayout(std::vector<int>{}), Error); }

}  // namespace
}  // namespace spillway
