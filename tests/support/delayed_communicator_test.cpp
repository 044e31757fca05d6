// SPDX-License-Identifier: Apache-2.0
#include "support/delayed_communicator.hpp"

#include <vector>

#include <gtest/gtest.h>

namespace spillway::test {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

TEST(DelayedCommunicator, EventIsLate_ButTheCallerIsNot) {
  DelayedCommunicator communicator(comm::make_single_communicator(), milliseconds(300));
  std::vector<float> shard{1, 2}, full(2);
  const auto start = Clock::now();

  const Event gathered = communicator.all_gather({}, ConstTensorView(std::span<const float>(shard), {2}),
                                                 TensorView(std::span(full), {2}));
  const auto returned = Clock::now();
  gathered.wait();
  const auto done = Clock::now();

  EXPECT_LT(returned - start, milliseconds(150));
  EXPECT_GE(done - start, milliseconds(300));
  EXPECT_EQ(full, shard);
}

TEST(DelayedCommunicator, CollectivesFollowOneAnother) {
  DelayedCommunicator communicator(comm::make_single_communicator(), milliseconds(40));
  std::vector<float> values(2);
  const TensorView view(std::span<float>(values), {2});
  const auto start = Clock::now();

  static_cast<void>(communicator.broadcast({}, view, 0));
  static_cast<void>(communicator.broadcast({}, view, 0));
  communicator.broadcast({}, view, 0).wait();

  EXPECT_GE(Clock::now() - start, milliseconds(120));
}

TEST(DelayedCommunicator, CollectivesOfAGroupFollowThoseOfTheParent) {
  DelayedCommunicator communicator(comm::make_single_communicator(), milliseconds(40));
  const auto group = communicator.split(0, 0);
  std::vector<float> values(2);
  const TensorView view(std::span<float>(values), {2});
  const auto start = Clock::now();

  static_cast<void>(communicator.broadcast({}, view, 0));
  group->broadcast({}, view, 0).wait();

  EXPECT_GE(Clock::now() - start, milliseconds(80));
}

}  // namespace
}  // namespace spillway::test
