// SPDX-License-Identifier: Apache-2.0
// Groups that a communicator is split into, and reduce_scatter with named pieces, for every backend.
#include <algorithm>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "comm/communicator_suite.hpp"
#include "comm/node_layout.hpp"
#include "comm/numbers.hpp"
#include "core/error.hpp"

namespace spillway::test {
namespace {

using comm::Communicator;
using comm::NodeLayout;
using testing::ElementsAreArray;

constexpr std::int64_t kPiece = 61;  // elements; odd, as in the other suite

/// Two nodes where the number of ranks allows it: 2 x 2 and 2 x 3 are among the backends.
NodeLayout faked_nodes(int ranks) {
  const int nodes = ranks % 2 == 0 ? 2 : 1;
  return NodeLayout::filled(nodes, ranks / nodes);
}

/// The sum over `ranks`, in that order, of the `piece`-th kPiece elements of what each has.
Numbers sum_of_piece(const std::vector<int>& ranks, int piece, DType dtype) {
  Numbers sum(dtype, kPiece);
  for (std::int64_t i = 0; i < kPiece; ++i) {
    float total = 0.0F;
    for (const int rank : ranks) total += Numbers::of_rank(rank, dtype, (piece + 1) * kPiece).at(piece * kPiece + i);
    sum.set(i, total);
  }
  return sum;
}

std::vector<int> all_below(int end) {
  std::vector<int> all(static_cast<std::size_t>(end));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

/// The ranks of the parent in the order of the group's.
std::vector<int> members(Communicator& group, int parent_rank) {
  std::vector<int> ranks;
  for (const double rank : comm::all_gather_doubles(group, std::vector<double>{static_cast<double>(parent_rank)}))
    ranks.push_back(static_cast<int>(rank));
  return ranks;
}

class GroupsSuite : public testing::TestWithParam<Backend> {
 protected:
  static void run(const std::function<void(Communicator&)>& body) { GetParam().run(body); }
};

TEST_P(GroupsSuite, Split_NumbersTheRanksOfEachColorByTheirKeys) {
  run([](Communicator& communicator) {
    const int color = communicator.rank() % 2;
    std::vector<int> expected;
    for (int r = communicator.size() - 1; r >= 0; --r)
      if (r % 2 == color) expected.push_back(r);

    const auto group = communicator.split(color, -communicator.rank());

    EXPECT_THAT(members(*group, communicator.rank()), ElementsAreArray(expected));
    EXPECT_EQ(group->size(), static_cast<int>(expected.size()));
    EXPECT_EQ(expected.at(static_cast<std::size_t>(group->rank())), communicator.rank());
  });
}

TEST_P(GroupsSuite, Split_WithEqualKeys_KeepsTheOrder) {
  run([](Communicator& communicator) {
    const auto group = communicator.split(7, 3);

    EXPECT_THAT(members(*group, communicator.rank()), ElementsAreArray(all_below(communicator.size())));
  });
}

TEST_P(GroupsSuite, Collectives_StayWithinTheirGroup) {
  run([](Communicator& communicator) {
    const NodeLayout nodes = faked_nodes(communicator.size());
    const auto group = communicator.split(nodes.node_of(communicator.rank()), communicator.rank());
    const std::vector<int> ranks = members(*group, communicator.rank());
    const int root = group->size() - 1;
    group->reserve(kPiece * sizeof(float));
    Numbers full = Numbers::of_rank(communicator.rank(), DType::f32, kPiece * group->size());
    Numbers shard(DType::f32, kPiece), gathered(DType::f32, kPiece * group->size());
    Numbers sent = Numbers::of_rank(communicator.rank(), DType::f32, kPiece);

    group->reduce_scatter({}, full.view(), shard.view()).wait();
    group->all_gather({}, sent.view(), gathered.view()).wait();
    group->broadcast({}, sent.view(), root).wait();
    group->barrier();
    const double sum = comm::ordered_sum(*group, std::vector<double>{1.0})[0];

    EXPECT_EQ(shard.bytes(), sum_of_piece(ranks, group->rank(), DType::f32).bytes());
    for (int r = 0; r < group->size(); ++r)
      for (std::int64_t i = 0; i < kPiece; ++i)
        ASSERT_EQ(gathered.at(r * kPiece + i), value_of(ranks[static_cast<std::size_t>(r)], i)) << r << " " << i;
    EXPECT_EQ(sent.bytes(), Numbers::of_rank(ranks[static_cast<std::size_t>(root)], DType::f32, kPiece).bytes());
    EXPECT_EQ(sum, group->size());
  });
}

TEST_P(GroupsSuite, AGroup_CanBeSplitAgain) {
  run([](Communicator& communicator) {
    const auto half = communicator.split(communicator.rank() / 2, communicator.rank());

    const auto alone = half->split(half->rank(), 0);

    EXPECT_THAT(members(*alone, communicator.rank()), testing::ElementsAre(communicator.rank()));
  });
}

TEST_P(GroupsSuite, Split_WithoutAColorIsRefused) {
  run([](Communicator& communicator) { EXPECT_THROW(static_cast<void>(communicator.split(-1, 0)), Error); });
}

TEST_P(GroupsSuite, AGroupThatIsNoLongerNeeded_LeavesTheOthersWorking) {
  run([](Communicator& communicator) {
    const auto kept = communicator.split(0, 0);
    auto dropped = communicator.split(communicator.rank() % 2, 0);
    dropped->barrier();

    dropped.reset();

    EXPECT_NO_THROW(kept->barrier());
    EXPECT_NO_THROW(communicator.barrier());
  });
}

TEST_P(GroupsSuite, ReduceScatter_GivesEachRankThePieceThatItNames_WithTheSameBits) {
  for (const DType dtype : {DType::f32, DType::bf16})
    run([dtype](Communicator& communicator) {
      const int size = communicator.size();
      communicator.reserve(kPiece * size_of(dtype));
      std::vector<int> reversed = all_below(size), rotated = all_below(size);
      std::reverse(reversed.begin(), reversed.end());
      std::rotate(rotated.begin(), rotated.begin() + 1, rotated.end());
      for (const std::vector<int>& pieces : {reversed, rotated, faked_nodes(size).piece_of_rank()}) {
        const int piece = pieces[static_cast<std::size_t>(communicator.rank())];
        const Numbers expected = sum_of_piece(all_below(size), piece, dtype);
        Numbers full = Numbers::of_rank(communicator.rank(), dtype, kPiece * size), shard(dtype, kPiece);
        const TensorView own_place = full.view().flat(piece * kPiece, kPiece);

        communicator.reduce_scatter({}, full.view(), shard.view(), pieces).wait();
        communicator.reduce_scatter({}, full.view(), own_place, pieces).wait();

        EXPECT_EQ(shard.bytes(), expected.bytes()) << name_of(dtype);
        EXPECT_EQ(std::memcmp(own_place.data(), expected.bytes().data(), own_place.bytes()), 0) << name_of(dtype);
      }
    });
}

TEST_P(GroupsSuite, ReduceScatter_RefusesPiecesThatAreNoPermutation) {
  run([](Communicator& communicator) {
    const int size = communicator.size();
    communicator.reserve(kPiece * sizeof(float));
    Numbers full(DType::f32, kPiece * size), shard(DType::f32, kPiece);
    std::vector<int> too_high = all_below(size), negative = all_below(size), too_many = all_below(size + 1);
    too_high.back() = size;
    negative.back() = -1;
    std::vector<std::vector<int>> wrong{too_high, negative, too_many};
    if (size > 1) wrong.emplace_back(static_cast<std::size_t>(size), 0);

    for (const std::vector<int>& pieces : wrong)
      EXPECT_THROW(static_cast<void>(communicator.reduce_scatter({}, full.view(), shard.view(), pieces)), Error);

    if (size == 1) return;
    std::vector<int> reversed = all_below(size);
    std::reverse(reversed.begin(), reversed.end());
    const TensorView place_of_another =
        full.view().flat(reversed[static_cast<std::size_t>((communicator.rank() + 1) % size)] * kPiece, kPiece);
    EXPECT_THROW(static_cast<void>(communicator.reduce_scatter({}, full.view(), place_of_another, reversed)), Error);
  });
}

/// Shards within a node: sums over all ranks, pieces gathered across the nodes, shards within them. Nobody waits in
/// between, and each round reads what the one before it left.
TEST_P(GroupsSuite, ParentAndGroups_RunInTheOrderOfTheCalls) {
  run([](Communicator& communicator) {
    const int size = communicator.size(), rank = communicator.rank();
    const NodeLayout nodes = faked_nodes(size);
    const std::vector<int> pieces = nodes.piece_of_rank();
    const auto across = communicator.split(nodes.local_rank_of(rank), nodes.node_of(rank));
    const auto within = communicator.split(nodes.node_of(rank), nodes.local_rank_of(rank));
    communicator.reserve(kPiece * sizeof(float));
    Numbers full = Numbers::of_rank(rank, DType::f32, kPiece * size);
    Numbers piece(DType::f32, kPiece), shard(DType::f32, kPiece * nodes.nodes()), plain(DType::f32, kPiece);
    Numbers expected = Numbers::of_rank(rank, DType::f32, kPiece * size);

    Event done;
    for (int round = 0; round < 5; ++round) {
      static_cast<void>(communicator.reduce_scatter({}, full.view(), piece.view(), pieces));
      static_cast<void>(across->all_gather({}, piece.view(), shard.view()));
      done = within->all_gather({}, shard.view(), full.view());
    }
    done.wait();
    for (int round = 0; round < 5; ++round) {
      communicator.reduce_scatter({}, expected.view(), plain.view()).wait();
      communicator.all_gather({}, plain.view(), expected.view()).wait();
    }

    EXPECT_EQ(full.bytes(), expected.bytes());
  });
}

TEST_P(GroupsSuite, BytesSentInAGroup_CountForItAndForItsParent) {
  run([](Communicator& communicator) {
    const NodeLayout nodes = faked_nodes(communicator.size());
    const auto group = communicator.split(nodes.node_of(communicator.rank()), 0);
    Numbers shard(DType::f32, kPiece), full(DType::f32, kPiece * group->size());
    const std::uint64_t before = communicator.bytes_sent(), before_in_group = group->bytes_sent();

    group->all_gather({}, shard.view(), full.view()).wait();

    const auto others = static_cast<std::uint64_t>(group->size() - 1);
    EXPECT_EQ(group->bytes_sent() - before_in_group, others * kPiece * sizeof(float));
    EXPECT_EQ(communicator.bytes_sent() - before, others * kPiece * sizeof(float));
  });
}

TEST_P(GroupsSuite, FailureBeforeACollectiveOfAGroup_IsRethrownByTheParentAndTheOtherGroups) {
  run([](Communicator& communicator) {
    const auto group = communicator.split(0, 0);
    const auto other = communicator.split(communicator.rank(), 0);
    Numbers tensor(DType::f32, 8);
    const auto failing = make_host_device()->create_worker_queue("failing");
    failing->submit([] { throw DataError("no such line"); });

    const Event sent = group->broadcast(failing->record(), tensor.view(), 0);

    EXPECT_THROW(sent.wait(), DataError);
    EXPECT_THROW(communicator.barrier(), DataError);
    EXPECT_THROW(other->barrier(), DataError);
  });
}

INSTANTIATE_TEST_SUITE_P(Backends, GroupsSuite, testing::ValuesIn(backends()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace spillway::test
