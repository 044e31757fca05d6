// SPDX-License-Identifier: Apache-2.0
#include "support/thread_ranks.hpp"

#include <atomic>

#include <gtest/gtest.h>

#include "core/error.hpp"

namespace spillway::test {
namespace {

TEST(ThreadRanks, RunTheBodyOncePerRank) {
  std::atomic<int> sum{0};

  run_on_thread_ranks(4, [&](comm::Communicator& communicator) { sum += 1 << communicator.rank(); });

  EXPECT_EQ(sum, 15);
}

TEST(ThreadRanks, FirstErrorIsRethrown_ThoughOthersWaitedForThatRank) {
  const auto run = [] {
    run_on_thread_ranks(3, [](comm::Communicator& communicator) {
      if (communicator.rank() == 1) throw DataError("line 7");
      communicator.barrier();
    });
  };

  EXPECT_THROW(run(), DataError);
}

}  // namespace
}  // namespace spillway::test
