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

/// Ranks 0 and 1 are one group, rank 2 another.
std::vector<std::unique_ptr<comm::Communicator>> split_in_two(
    const std::vector<std::unique_ptr<comm::Communicator>>& ranks) {
  std::vector<std::unique_ptr<comm::Communicator>> groups(ranks.size());
  std::vector<std::thread> threads;
  for (std::size_t r = 0; r < ranks.size(); ++r)
    threads.emplace_back([&, r] { groups[r] = ranks[r]->split(r == 2 ? 1 : 0, 0); });
  for (std::thread& thread : threads) thread.join();
  return groups;
}

TEST(ThreadCommunicator, AbortOfAGroup_EndsTheWaitsInItAndInItsParent) {
  const auto ranks = comm::make_thread_communicators(3);
  const auto groups = split_in_two(ranks);
  std::vector<std::string> messages(2);
  std::thread in_group([&] { messages[0] = message_of([&] { groups[1]->barrier(); }); });
  std::thread in_parent([&] { messages[1] = message_of([&] { ranks[2]->barrier(); }); });

  groups[0]->abort(5, "the disk is full");
  in_group.join();
  in_parent.join();

  for (const std::string& message : messages) EXPECT_THAT(message, HasSubstr("rank 0: the disk is full"));
}

TEST(ThreadCommunicator, AbortOfTheParent_EndsTheWaitsOfItsGroups) {
  const auto ranks = comm::make_thread_communicators(3);
  const auto groups = split_in_two(ranks);
  std::string message;
  std::thread waiting([&] { message = message_of([&] { groups[0]->barrier(); }); });

  ranks[2]->abort(5, "the disk is full");
  waiting.join();

  EXPECT_THAT(message, HasSubstr("rank 2: the disk is full"));
}

TEST(ThreadCommunicator, AGroupDestroyedWithWorkUnderWay_EndsTheWaitsOfAllRanks) {
  const auto ranks = comm::make_thread_communicators(3);
  auto groups = split_in_two(ranks);
  std::vector<float> values(4);
  const Event event = groups[0]->broadcast({}, TensorView(std::span<float>(values), {4}), 1);
  std::string message;
  std::thread waiting([&] { message = message_of([&] { ranks[2]->barrier(); }); });

  groups[0].reset();
  waiting.join();

  EXPECT_THROW(event.wait(), CommunicationError);
  EXPECT_THAT(message, HasSubstr("rank 0 has left"));
}

TEST(ThreadCommunicator, Split_InABrokenGroupFails) {
  const auto ranks = comm::make_thread_communicators(2);
  ranks[0]->abort(5, "no more");

  EXPECT_THAT(message_of([&] { static_cast<void>(ranks[1]->split(0, 0)); }), HasSubstr("no more"));
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

TEST(SingleCommunicator, AfterAnAbort_CollectivesFailInItsGroupsToo) {
  const auto single = comm::make_single_communicator();
  const auto group = single->split(0, 0);

  single->abort(5, "no more");

  EXPECT_THROW(group->barrier(), CommunicationError);
  EXPECT_THROW(single->barrier(), CommunicationError);
}

}  // namespace
}  // namespace spillway
