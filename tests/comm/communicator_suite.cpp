// SPDX-License-Identifier: Apache-2.0
#include "comm/communicator_suite.hpp"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstring>
#include <future>
#include <ostream>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "comm/numbers.hpp"
#include "core/error.hpp"

namespace spillway::test {
namespace {

using comm::Communicator;
using testing::ElementsAreArray;
using testing::HasSubstr;

constexpr std::int64_t kShard =
    173;  // elements; odd, so that messages and blocks of the chunked backend do not divide it

/// What reduce_scatter leaves on `rank`, by its definition.
Numbers expected_sum(int rank, int ranks, DType wire, DType to) {
  Numbers sum(to, kShard);
  for (std::int64_t i = 0; i < kShard; ++i) {
    float total = 0.0F;
    for (int r = 0; r < ranks; ++r) {
      const float value = value_of(r, rank * kShard + i);
      total += wire == DType::f32 ? value : widen(narrow(value, wire), wire);
    }
    sum.set(i, total);
  }
  return sum;
}

std::vector<std::byte> bytes_of_rank(int rank, std::size_t length) {
  return std::vector<std::byte>(length, static_cast<std::byte>(rank + 1));
}

class CommunicatorSuite : public testing::TestWithParam<Backend> {
 protected:
  static void run(const std::function<void(Communicator&)>& body) { GetParam().run(body); }
};

TEST_P(CommunicatorSuite, KnowsItsRankAndTheNumberOfRanks) {
  run([](Communicator& communicator) {
    EXPECT_EQ(communicator.size(), GetParam().ranks);
    EXPECT_GE(communicator.rank(), 0);
    EXPECT_LT(communicator.rank(), communicator.size());
  });
}

TEST_P(CommunicatorSuite, AllGather_PutsEveryRanksShardAtItsPlace) {
  for (const DType dtype : {DType::f32, DType::bf16})
    run([&](Communicator& communicator) {
      Numbers shard = Numbers::of_rank(communicator.rank(), dtype, kShard);
      Numbers full(dtype, kShard * communicator.size());

      communicator.all_gather({}, shard.view(), full.view()).wait();

      std::vector<std::byte> expected;
      for (int r = 0; r < communicator.size(); ++r) {
        const Numbers part = Numbers::of_rank(r, dtype, kShard);
        expected.insert(expected.end(), part.bytes().begin(), part.bytes().end());
      }
      EXPECT_EQ(full.bytes(), expected) << name_of(dtype);
    });
}

TEST_P(CommunicatorSuite, AllGather_WorksInPlace) {
  run([](Communicator& communicator) {
    Numbers full(DType::f32, kShard * communicator.size());
    const std::int64_t begin = communicator.rank() * kShard;
    for (std::int64_t i = 0; i < kShard; ++i) full.set(begin + i, value_of(communicator.rank(), i));

    communicator.all_gather({}, full.view().flat(begin, kShard), full.view()).wait();

    for (int r = 0; r < communicator.size(); ++r)
      for (std::int64_t i = 0; i < kShard; ++i) ASSERT_EQ(full.at(r * kShard + i), value_of(r, i)) << r << " " << i;
  });
}

TEST_P(CommunicatorSuite, AllGather_OfEmptyShards_GivesNothing) {
  run([](Communicator& communicator) {
    EXPECT_NO_THROW(communicator.all_gather({}, Numbers(DType::f32, 0).view(), Numbers(DType::f32, 0).view()).wait());
  });
}

TEST_P(CommunicatorSuite, ReduceScatter_SumsInRankOrderAndRoundsOnce) {
  for (const auto& [wire, to] : std::vector<std::pair<DType, DType>>{{DType::f32, DType::f32},
                                                                     {DType::bf16, DType::bf16},
                                                                     {DType::bf16, DType::f32},
                                                                     {DType::f16, DType::f16},
                                                                     {DType::f16, DType::f32}})
    run([wire = wire, to = to](Communicator& communicator) {
      communicator.reserve(kShard * size_of(wire));
      Numbers full = Numbers::of_rank(communicator.rank(), wire, kShard * communicator.size());
      Numbers shard(to, kShard);

      communicator.reduce_scatter({}, full.view(), shard.view()).wait();

      EXPECT_EQ(shard.bytes(), expected_sum(communicator.rank(), communicator.size(), wire, to).bytes())
          << name_of(wire) << " to " << name_of(to);
    });
}

TEST_P(CommunicatorSuite, ReduceScatter_WorksInPlace) {
  for (const DType dtype : {DType::f32, DType::bf16})
    run([dtype](Communicator& communicator) {
      communicator.reserve(kShard * size_of(dtype));
      Numbers full = Numbers::of_rank(communicator.rank(), dtype, kShard * communicator.size());
      const TensorView shard = full.view().flat(communicator.rank() * kShard, kShard);

      communicator.reduce_scatter({}, full.view(), shard).wait();

      const Numbers expected = expected_sum(communicator.rank(), communicator.size(), dtype, dtype);
      EXPECT_EQ(std::memcmp(shard.data(), expected.bytes().data(), shard.bytes()), 0) << name_of(dtype);
    });
}

TEST_P(CommunicatorSuite, Broadcast_CopiesTheRootsTensor_FromAnyRoot) {
  run([](Communicator& communicator) {
    for (int root = 0; root < communicator.size(); ++root) {
      Numbers tensor = Numbers::of_rank(communicator.rank(), DType::f32, kShard);

      communicator.broadcast({}, tensor.view(), root).wait();

      EXPECT_EQ(tensor.bytes(), Numbers::of_rank(root, DType::f32, kShard).bytes()) << "root " << root;
    }
  });
}

TEST_P(CommunicatorSuite, Collectives_RunInTheOrderOfTheirCalls) {
  run([](Communicator& communicator) {
    communicator.reserve(kShard * sizeof(float));
    Numbers full = Numbers::of_rank(communicator.rank(), DType::f32, kShard * communicator.size());
    Numbers shard(DType::f32, kShard), gathered(DType::f32, kShard * communicator.size());

    static_cast<void>(communicator.reduce_scatter({}, full.view(), shard.view()));
    static_cast<void>(communicator.all_gather({}, shard.view(), gathered.view()));
    communicator.broadcast({}, gathered.view(), communicator.size() - 1).wait();

    std::vector<std::byte> expected;
    for (int r = 0; r < communicator.size(); ++r) {
      const Numbers part = expected_sum(r, communicator.size(), DType::f32, DType::f32);
      expected.insert(expected.end(), part.bytes().begin(), part.bytes().end());
    }
    EXPECT_EQ(gathered.bytes(), expected);
  });
}

TEST_P(CommunicatorSuite, Collective_StartsAfterItsEventAndDoesNotBlockTheCaller) {
  run([](Communicator& communicator) {
    Numbers shard(DType::f32, kShard), full(DType::f32, kShard * communicator.size());
    std::promise<void> gate;
    const auto producer = make_host_device()->create_worker_queue("producer");
    producer->submit([&, rank = communicator.rank(), opened = gate.get_future().share()] {
      opened.wait();
      for (std::int64_t i = 0; i < kShard; ++i) shard.set(i, value_of(rank, i));
    });

    const Event gathered = communicator.all_gather(producer->record(), shard.view(), full.view());
    const bool too_early = gathered.ready();
    gate.set_value();
    gathered.wait();

    EXPECT_FALSE(too_early);
    for (int r = 0; r < communicator.size(); ++r) ASSERT_EQ(full.at(r * kShard + 5), value_of(r, 5));
  });
}

TEST_P(CommunicatorSuite, Exchange_GivesEveryRanksBytesThoughLengthsDiffer) {
  run([](Communicator& communicator) {
    const auto length = [](int rank) {
      return rank == 0 ? std::size_t{0} : std::size_t{1000} * static_cast<std::size_t>(rank);
    };
    const auto mine = bytes_of_rank(communicator.rank(), length(communicator.rank()));

    const auto all = communicator.exchange(mine);

    ASSERT_EQ(all.size(), static_cast<std::size_t>(communicator.size()));
    for (int r = 0; r < communicator.size(); ++r)
      EXPECT_EQ(all[static_cast<std::size_t>(r)], bytes_of_rank(r, length(r)));
  });
}

TEST_P(CommunicatorSuite, OrderedSum_HasTheBitsOfASumInRankOrderOnEveryRank) {
  run([](Communicator& communicator) {
    const auto of_rank = [](int rank) {
      return std::vector<double>{value_of(rank, 0) / 3.0, 1.0e16 * (rank % 2 == 0 ? 1 : -1), 0.1};
    };

    const std::vector<double> sum = comm::ordered_sum(communicator, of_rank(communicator.rank()));

    std::vector<double> expected = of_rank(0);
    for (int r = 1; r < communicator.size(); ++r)
      for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += of_rank(r)[i];
    ASSERT_EQ(sum.size(), expected.size());
    for (std::size_t i = 0; i < sum.size(); ++i)
      EXPECT_EQ(std::bit_cast<std::uint64_t>(sum[i]), std::bit_cast<std::uint64_t>(expected[i])) << i;
  });
}

TEST_P(CommunicatorSuite, AllGatherDoubles_JoinsInRankOrder) {
  run([](Communicator& communicator) {
    const std::vector<double> mine(static_cast<std::size_t>(communicator.rank()), communicator.rank() + 0.5);

    const std::vector<double> joined = comm::all_gather_doubles(communicator, mine);

    std::vector<double> expected;
    for (int r = 0; r < communicator.size(); ++r) expected.insert(expected.end(), static_cast<std::size_t>(r), r + 0.5);
    EXPECT_THAT(joined, ElementsAreArray(expected));
  });
}

TEST_P(CommunicatorSuite, BroadcastText_IsTheRootsText) {
  run([](Communicator& communicator) {
    const int root = communicator.size() - 1;

    const std::string text =
        comm::broadcast_text(communicator, "text of rank " + std::to_string(communicator.rank()), root);

    EXPECT_EQ(text, "text of rank " + std::to_string(root));
  });
}

TEST_P(CommunicatorSuite, Barrier_IsPassedOnlyWhenAllAreThere) {
  run([](Communicator& communicator) {
    const auto now = [] {
      return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
    };
    std::this_thread::sleep_for(std::chrono::milliseconds(20 * communicator.rank()));

    const double arrival = now();
    communicator.barrier();
    const double departure = now();

    const auto arrivals =
        comm::all_gather_doubles(communicator, std::vector<double>{arrival});  // one clock: all on this node
    EXPECT_GE(departure, *std::max_element(arrivals.begin(), arrivals.end()));
  });
}

TEST_P(CommunicatorSuite, BytesSent_AreThoseThatOtherRanksGet) {
  run([](Communicator& communicator) {
    communicator.reserve(kShard * sizeof(float));
    Numbers shard(DType::f32, kShard), full(DType::f32, kShard * communicator.size());
    const auto others = static_cast<std::uint64_t>(communicator.size() - 1);
    const std::uint64_t piece_bytes = kShard * sizeof(float);
    const std::uint64_t before = communicator.bytes_sent();

    communicator.all_gather({}, shard.view(), full.view()).wait();
    const std::uint64_t gathered = communicator.bytes_sent();
    communicator.reduce_scatter({}, full.view(), shard.view()).wait();
    const std::uint64_t reduced = communicator.bytes_sent();
    communicator.broadcast({}, shard.view(), 0).wait();
    const std::uint64_t broadcast = communicator.bytes_sent() - reduced;

    EXPECT_EQ(gathered - before, others * piece_bytes);
    EXPECT_EQ(reduced - gathered, others * piece_bytes);
    EXPECT_EQ(comm::ordered_sum(communicator, std::vector<double>{static_cast<double>(broadcast)})[0],
              static_cast<double>(others * piece_bytes));
  });
}

TEST_P(CommunicatorSuite, Views_ThatDoNotFitTheGroupAreRefusedAtOnce) {
  run([](Communicator& communicator) {
    const int size = communicator.size();
    Numbers shard(DType::f32, 8), full(DType::f32, 8 * size), longer(DType::f32, 8 * size + 1), half(DType::bf16, 8);
    Numbers full_half(DType::bf16, 8 * size);
    TensorView integers(full.view().data(), DType::i32, Shape{8 * size});
    const auto message = [](const auto& call) -> std::string {
      try {
        static_cast<void>(call());
      } catch (const Error& error) {
        return error.what();
      }
      return "nothing was thrown";
    };

    EXPECT_THAT(message([&] { return communicator.all_gather({}, shard.view(), longer.view()); }),
                HasSubstr("need " + std::to_string(8 * size)));
    EXPECT_THAT(message([&] { return communicator.all_gather({}, half.view(), full.view()); }), HasSubstr("bf16"));
    EXPECT_THAT(
        message([&] { return communicator.all_gather({}, longer.view().flat(1, 8), longer.view().flat(0, 8 * size)); }),
        HasSubstr("own place"));
    communicator.reserve(1024);
    EXPECT_THAT(message([&] { return communicator.reduce_scatter({}, longer.view(), shard.view()); }),
                HasSubstr("8 elements"));
    EXPECT_THAT(message([&] { return communicator.reduce_scatter({}, full.view(), half.view()); }), HasSubstr("bf16"));
    EXPECT_THAT(message([&] { return communicator.reduce_scatter({}, integers, shard.view()); }), HasSubstr("i32"));
    EXPECT_THAT(message([&] { return communicator.broadcast({}, shard.view(), size); }), HasSubstr("root"));
    EXPECT_THAT(message([&] { return comm::broadcast_text(communicator, "", -1); }), HasSubstr("root -1"));
  });
}

TEST_P(CommunicatorSuite, FailureBeforeACollective_IsRethrownByItsEventAndAllLaterOnes) {
  run([](Communicator& communicator) {
    Numbers shard(DType::f32, 8), full(DType::f32, 8 * communicator.size());
    const auto failing = make_host_device()->create_worker_queue("failing");
    failing->submit([] { throw DataError("no such line"); });

    const Event gathered = communicator.all_gather(failing->record(), shard.view(), full.view());

    EXPECT_THROW(gathered.wait(), DataError);
    EXPECT_THROW(communicator.broadcast({}, shard.view(), 0).wait(), DataError);
    EXPECT_THROW(communicator.barrier(), DataError);
  });
}

INSTANTIATE_TEST_SUITE_P(Backends, CommunicatorSuite, testing::ValuesIn(backends()),
                         [](const auto& test) { return test.param.name; });

}  // namespace

void PrintTo(const Backend& backend, std::ostream* out) { *out << backend.name; }

}  // namespace spillway::test
