// SPDX-License-Identifier: Apache-2.0
#include "comm/watchdog.hpp"

#include <future>

#include <gmock/gmock.h>

#include "comm/communicator.hpp"
#include "core/error.hpp"

namespace spillway::comm {
namespace {

using namespace std::chrono_literals;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

/// Ranks that answer as the test says.
class FakePeers : public Peers {
 public:
  FakePeers(int rank, std::vector<std::optional<Position>> positions)
      : rank_(rank), positions_(std::move(positions)), hosts_(positions_.size(), "node7") {}
  [[nodiscard]] int rank() const override { return rank_; }
  [[nodiscard]] const std::vector<std::string>& hosts() const override { return hosts_; }
  void answer(const Position&) override {}
  [[nodiscard]] std::vector<std::optional<Position>> ask(const Position& mine, std::chrono::milliseconds) override {
    positions_[static_cast<std::size_t>(rank_)] = mine;
    return positions_;
  }

 private:
  int rank_;
  std::vector<std::optional<Position>> positions_;
  std::vector<std::string> hosts_;
};

constexpr const char* kCollective = "all_gather of 512 bytes among 2 ranks";
const Position kThere = {
    .number = 1, .inside = true, .collective = kCollective, .subject = "step 4, acquire encoder.3"};

/// What the watchdog of `rank` says in its first collective, the others being where `positions` has them.
std::string message_of(int rank, std::vector<std::optional<Position>> positions, std::chrono::seconds patience = 10s) {
  std::promise<std::string> said;
  std::future<std::string> message = said.get_future();
  Watchdog watchdog([&](const std::string& text) { said.set_value(text); });
  watchdog.set_timeout(50ms);
  if (!positions.empty()) watchdog.set_peers(std::make_unique<FakePeers>(rank, std::move(positions)));
  watchdog.begin_step(4);
  watchdog.about("acquire encoder.3");

  const Watchdog::Call call(watchdog, "all_gather", 512, 2);

  return message.wait_for(patience) == std::future_status::ready ? message.get() : "nothing";
}

TEST(WatchdogsMessage, NamesRankMachineStepUnitAndOperation_AndWhoDoesNotAnswer) {
  EXPECT_THAT(message_of(1, {std::nullopt, {}}),
              AllOf(StartsWith("rank 1 on node7, step 4, acquire encoder.3: all_gather of 512 bytes among 2 ranks "
                               "(collective 1) has not ended for 0."),
                    HasSubstr("s, longer than train.collective_timeout allows. rank 0 on node7 gives no answer: it has "
                              "died or is stopped. The job ends.")));
}

TEST(WatchdogsMessage, SaysWhatALateRankIsAt) {
  const Position late = {.number = 0, .inside = false, .collective = "", .subject = "step 4, forward encoder.2"};

  EXPECT_THAT(message_of(0, {{}, late}),
              HasSubstr("rank 1 on node7 has not come: it is at step 4, forward encoder.2."));
}

TEST(WatchdogsMessage, SaysWhichOtherCollectiveARankIsIn) {
  Position other = kThere;
  other.collective = "barrier among 2 ranks";

  EXPECT_THAT(
      message_of(0, {{}, other}),
      HasSubstr("rank 1 on node7 is in another collective: barrier among 2 ranks (step 4, acquire encoder.3)."));
}

TEST(WatchdogsMessage, WhenAllAreThere_BlamesTheNetwork) {
  EXPECT_THAT(message_of(0, {{}, kThere}), HasSubstr("every rank is there, but nothing moves: the network failed"));
}

TEST(WatchdogsMessage, OfManyAbsentRanks_NamesEight) {
  const std::string message = message_of(0, std::vector<std::optional<Position>>(12));

  EXPECT_THAT(message, AllOf(HasSubstr("rank 8 on node7"), Not(HasSubstr("rank 9 on node7")), HasSubstr("and 3 more")));
}

TEST(WatchdogsMessage, WithoutPeers_NamesTheMachine) {
  EXPECT_THAT(message_of(0, {}), AllOf(StartsWith("a rank on "), HasSubstr(", step 4, acquire encoder.3: all_gather")));
}

TEST(Watchdog, WhereALowerRankWaitsToo_LetsThatOneSpeakFirst) {
  EXPECT_EQ(message_of(1, {kThere, {}, std::nullopt}, 1s), "nothing");
  EXPECT_THAT(message_of(1, {kThere, {}, std::nullopt}), HasSubstr("rank 2 on node7 gives no answer"));
}

TEST(Watchdog, OutsideOfCollectives_NothingIsTooLong) {
  bool ended = false;
  {
    Watchdog watchdog([&](const std::string&) { ended = true; });
    watchdog.set_timeout(50ms);
    { const Watchdog::Call call(watchdog, "barrier"); }

    std::this_thread::sleep_for(400ms);
  }

  EXPECT_FALSE(ended);
}

std::vector<std::unique_ptr<Communicator>> watched_ranks(int ranks, std::chrono::milliseconds timeout) {
  auto communicators = make_thread_communicators(ranks);
  for (const auto& communicator : communicators) communicator->watchdog().set_timeout(timeout);
  return communicators;
}

/// What a rank's call threw.
std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const CommunicationError& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::failure);
    return error.what();
  }
  return "nothing";
}

TEST(WatchedThreads, ARankThatDoesNotCome_IsNamedToTheOthers) {
  const auto ranks = watched_ranks(3, 300ms);
  ranks[1]->watchdog().begin_step(3);
  ranks[1]->watchdog().about("forward encoder.2");
  std::vector<std::string> errors(2);
  std::thread other([&] { errors[1] = error_of([&] { ranks[2]->barrier(); }); });

  errors[0] = error_of([&] { ranks[0]->barrier(); });
  other.join();

  for (const std::string& error : errors)
    EXPECT_THAT(error, HasSubstr("has not come: it is at step 3, forward encoder.2"));
}

TEST(WatchedThreads, InAGroup_TheyAreWatchedToo) {
  const auto ranks = watched_ranks(2, 300ms);
  std::unique_ptr<Communicator> groups[2];
  std::thread other([&] { groups[1] = ranks[1]->split(0, 0); });
  groups[0] = ranks[0]->split(0, 0);
  other.join();

  const std::string error = error_of([&] { (void)groups[0]->exchange({}); });

  EXPECT_THAT(error, HasSubstr("start: exchange among 2 ranks"));
  EXPECT_EQ(&groups[0]->watchdog(), &ranks[0]->watchdog());
}

TEST(WatchedThreads, ARankThatComesInTime_IsWaitedFor) {
  const auto ranks = watched_ranks(2, 2s);
  std::thread late([&] {
    std::this_thread::sleep_for(300ms);
    ranks[1]->barrier();
  });

  EXPECT_EQ(error_of([&] { ranks[0]->barrier(); }), "nothing");
  late.join();
}

TEST(WatchedThreads, ManyCollectives_MayTakeLongerThanOne) {
  const auto ranks = watched_ranks(2, 400ms);
  const auto run = [](Communicator& rank) {
    return error_of([&] {
      for (int i = 0; i < 20; ++i) {
        std::this_thread::sleep_for(50ms);
        rank.barrier();
      }
    });
  };
  std::string errors[2];
  std::thread other([&] { errors[1] = run(*ranks[1]); });

  errors[0] = run(*ranks[0]);
  other.join();

  EXPECT_EQ(errors[0], "nothing");
  EXPECT_EQ(errors[1], "nothing");
}

/// A rank's own work, which its collective waits for, is no stall.
TEST(WatchedThreads, WhatACollectiveWaitsForOnItsRank_DoesNotCount) {
  const auto ranks = watched_ranks(2, 400ms);
  const auto run = [](Communicator& rank) {
    const auto device = make_host_device();
    const auto queue = device->create_worker_queue("slow");
    queue->submit([] { std::this_thread::sleep_for(1s); });
    std::vector<float> values(4);
    return error_of([&] { rank.broadcast(queue->record(), TensorView(std::span<float>(values), {4}), 0).wait(); });
  };
  std::string errors[2];
  std::thread other([&] { errors[1] = run(*ranks[1]); });

  errors[0] = run(*ranks[0]);
  other.join();

  EXPECT_EQ(errors[0], "nothing");
  EXPECT_EQ(errors[1], "nothing");
}

}  // namespace
}  // namespace spillway::comm
