// SPDX-License-Identifier: Apache-2.0
#include "train/stop_request.hpp"

#include <thread>

#include <gtest/gtest.h>
#include <signal.h>

namespace spillway::train {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

TEST(StopRequest, WithoutSignalAndLimit_HasNoReason) {
  const StopRequest stop({.start = Clock::now() - 1000h});

  EXPECT_EQ(stop.reason(1000h), StopReason::none);
}

TEST(StopRequest, AfterAnySignal_SaysSoAndTheProcessLives) {
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1}) {
    const StopRequest stop({.start = Clock::now()});

    raise(signal);

    EXPECT_EQ(stop.reason(0s), StopReason::signal) << signal;
  }
}

TEST(StopRequest, ANewOne_ForgetsTheSignalOfTheLast) {
  {
    const StopRequest last({.start = Clock::now()});
    raise(SIGUSR1);
  }

  const StopRequest stop({.start = Clock::now()});

  EXPECT_EQ(stop.reason(0s), StopReason::none);
}

TEST(StopRequest, AWarningBeforeThereIsOne_ReachesIt) {
  StopRequest::expect_warnings();
  raise(SIGUSR1);

  const StopRequest stop({.start = Clock::now()});

  EXPECT_EQ(stop.reason(0s), StopReason::signal);
}

TEST(StopRequest, Destroyed_PutsTheOldHandlerBack) {
  signal(SIGUSR1, SIG_IGN);
  { const StopRequest stop({.start = Clock::now()}); }

  const auto handler = signal(SIGUSR1, SIG_DFL);

  EXPECT_EQ(handler, SIG_IGN);
}

TEST(StopRequest, WhenStoppingWouldPassTheLimit_StopsBeforeIt) {
  const StopRequest stop({.time_limit = 3600s, .start = Clock::now() - 3000s});

  EXPECT_EQ(stop.reason(500s), StopReason::none);
  EXPECT_EQ(stop.reason(600s), StopReason::time_limit);
}

TEST(StopRequest, WhenStoppingWouldPassTheEndOfTheJob_StopsBeforeIt) {
  const StopRequest stop({.start = Clock::now(), .slurm = {.end = std::chrono::system_clock::now() + 600s}});

  EXPECT_EQ(stop.reason(500s), StopReason::none);
  EXPECT_EQ(stop.reason(600s), StopReason::job_end);
}

TEST(StopRequestDeathTest, ASecondOrder_LeavesAtOnce) {
  for (const int first : {SIGTERM, SIGINT})
    for (const int second : {SIGTERM, SIGINT}) {
      const auto act = [&] {
        const StopRequest stop({.start = Clock::now()});
        raise(first);
        std::this_thread::sleep_for(300ms);
        raise(second);
      };
      EXPECT_EXIT(act(), testing::KilledBySignal(second), "leaving at once");
    }
}

TEST(StopRequest, TheSameOrderTwiceInAMoment_IsOne) {
  const StopRequest stop({.start = Clock::now()});

  raise(SIGTERM);
  raise(SIGTERM);

  EXPECT_EQ(stop.reason(0s), StopReason::signal);
}

TEST(StopRequest, WarnedByUsr1_OneOrderIsNotTheSecond) {
  const StopRequest stop({.start = Clock::now()});

  raise(SIGUSR1);
  std::this_thread::sleep_for(300ms);
  raise(SIGTERM);

  EXPECT_EQ(stop.reason(0s), StopReason::signal);
}

TEST(StopReasonName, NamesWhatTheUserSet) {
  EXPECT_EQ(name_of(StopReason::signal), "a signal");
  EXPECT_EQ(name_of(StopReason::time_limit), "train.time_limit");
  EXPECT_EQ(name_of(StopReason::job_end), "the end of the Slurm job");
}

}  // namespace
}  // namespace spillway::train
