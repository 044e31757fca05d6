// SPDX-License-Identifier: Apache-2.0
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "comm/communicator.hpp"
#include "core/error.hpp"

namespace spillway {
namespace {

using testing::HasSubstr;

std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const CommunicationError& error) {
    return error.what();
  }
  return "no CommunicationError";
}

TEST(ThreadCommunicator, Abort_EndsTheWaitsOfEveryOtherRank) {
  const auto ranks = comm::make_thread_communicators(3);
  std::vector<std::string> messages(2);
  std::vector<std::thread> waiting;
  for (std::size_t r = 0; r < 2; ++r)
    waiting.emplace_back([&, r] { messages[r] = message_of([&] { ranks[r]->barrier(); }); });

  ranks[2]->abort(5, "the disk is full");
  for (std::thread& thread : waiting) thread.join();

  for (const std::string& message : messages) EXPECT_THAT(message, HasSubstr("rank 2: the disk is full"));
}

TEST(ThreadCommunicator, AfterAnAbort_LaterCollectivesFailToo) {
  const auto ranks = comm::make_thread_communicators(2);
  std::vector<float> values(4);
  ranks[1]->abort(5, "first reason");
  ranks[0]->abort(5, "second reason");

  const Event event = ranks[0]->broadcast({}, TensorView(std::span<float>(values), {4}), 0);

  EXPECT_THAT(message_of([&] { event.wait(); }), HasSubstr("first reason"));
  EXPECT_THAT(message_of([&] { static_cast<void>(ranks[1]->exchange({})); }), HasSubstr("first reason"));
}

TEST(ThreadCommunicator, ARankThatLeaves_EndsTheWaitsOfTheOthers) {
  auto ranks = comm::make_thread_communicators(2);
  std::string message;
  std::thread waiting([&] { message = message_of([&] { ranks[0]->barrier(); }); });

  ranks[1].reset();
  waiting.join();

  EXPECT_THAT(message, HasSubstr("rank 1 has left"));
}

TEST(ThreadCommunicator, DestroyedWithWorkUnderWay_DoesNotHang) {
  auto ranks = comm::make_thread_communicators(2);
  std::vector<float> values(4);
  const Event event = ranks[0]->broadcast({}, TensorView(std::span<float>(values), {4}), 1);

  ranks[0].reset();

  EXPECT_THROW(event.wait(), CommunicationError);
}

TEST(ThreadCommunicator, RanksInDifferentCalls_AreNamedAndBreakTheGroup) {
  const auto ranks = comm::make_thread_communicators(2);
  std::vector<float> four(4), eight(8), full(8), longer(16);

  const Event first =
      ranks[0]->all_gather({}, ConstTensorView(std::span<const float>(four), {4}), TensorView(std::span(full), {8}));
  const Event second = ranks[1]->all_gather({}, ConstTensorView(std::span<const float>(eight), {8}),
                                            TensorView(std::span(longer), {16}));

  EXPECT_THAT(message_of([&] { first.wait(); }), HasSubstr("bytes of rank"));
  EXPECT_THAT(message_of([&] { second.wait(); }), HasSubstr("bytes of rank"));
}

TEST(SingleCommunicator, AfterAnAbort_CollectivesFail) {
  const auto single = comm::make_single_communicator();

  single->abort(5, "no more");

  EXPECT_THROW(single->barrier(), CommunicationError);
}

}  // namespace
}  // namespace spillway
