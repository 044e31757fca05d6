// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "comm/communicator.hpp"
#include "core/error.hpp"
#include "support/thread_ranks.hpp"

namespace spillway {
namespace {

TEST(OrderedSum, OfVectorsOfDifferentLengths_FailsOnEveryRank) {
  test::run_on_thread_ranks(2, [](comm::Communicator& communicator) {
    const std::vector<double> values(communicator.rank() == 0 ? 2 : 3);

    EXPECT_THROW(static_cast<void>(comm::ordered_sum(communicator, values)), CommunicationError);
  });
}

TEST(OrderedSum, OfNothing_IsNothing) {
  const auto single = comm::make_single_communicator();

  EXPECT_TRUE(comm::ordered_sum(*single, {}).empty());
}

}  // namespace
}  // namespace spillway
