// SPDX-License-Identifier: Apache-2.0
#include "train/stop_request.hpp"

#include <gtest/gtest.h>
#include <signal.h>

namespace spillway::train {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

TEST(StopRequest, WithoutSignalAndLimit_HasNoReason) {
  const StopRequest stop(0s, Clock::now() - 1000h);

  EXPECT_EQ(stop.reason(1000h), StopReason::none);
}

TEST(StopRequest, AfterEitherSignal_SaysSoAndTheProcessLives) {
  for (const int signal : {SIGTERM, SIGUSR1}) {
    const StopRequest stop(0s, Clock::now());

    raise(signal);

    EXPECT_EQ(stop.reason(0s), StopReason::signal) << signal;
  }
}

TEST(StopRequest, ANewOne_ForgetsTheSignalOfTheLast) {
  {
    const StopRequest last(0s, Clock::now());
    raise(SIGUSR1);
  }

  const StopRequest stop(0s, Clock::now());

  EXPECT_EQ(stop.reason(0s), StopReason::none);
}

TEST(StopRequest, Destroyed_PutsTheOldHandlerBack) {
  signal(SIGUSR1, SIG_IGN);
  { const StopRequest stop(0s, Clock::now()); }

  const auto handler = signal(SIGUSR1, SIG_DFL);

  EXPECT_EQ(handler, SIG_IGN);
}

TEST(StopRequest, WhenStoppingWouldPassTheLimit_StopsBeforeIt) {
  const StopRequest stop(3600s, Clock::now() - 3000s);

  EXPECT_EQ(stop.reason(500s), StopReason::none);
  EXPECT_EQ(stop.reason(600s), StopReason::time_limit);
}

TEST(StopReasonName, NamesWhatTheUserSet) {
  EXPECT_EQ(name_of(StopReason::signal), "a signal");
  EXPECT_EQ(name_of(StopReason::time_limit), "train.time_limit");
}

}  // namespace
}  // namespace spillway::train
