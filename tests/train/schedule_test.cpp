// SPDX-License-Identifier: Apache-2.0
#include "train/schedule.hpp"

#include <gtest/gtest.h>

namespace spillway::train {
namespace {

TEST(WarmupSteps, GoBeforeTheRatio) {
  EXPECT_EQ(warmup_steps({.warmup_steps = 7, .warmup_ratio = 0.5}, 100), 7);
  EXPECT_EQ(warmup_steps({.warmup_steps = 0, .warmup_ratio = 0.0}, 100), 0);
}

TEST(WarmupSteps, OfARatio_AreRoundedUp) {
  EXPECT_EQ(warmup_steps({.warmup_ratio = 0.06}, 100), 6);
  EXPECT_EQ(warmup_steps({.warmup_ratio = 0.1}, 101), 11);
  EXPECT_EQ(warmup_steps({.warmup_ratio = 0.001}, 10), 1);
}

TEST(Schedule, Linear_RisesThenFallsToZero) {
  const ScheduleOptions options{.lr_scheduler_type = SchedulerType::linear, .warmup_steps = 10};
  for (std::int64_t step = 0; step <= 100; ++step) {
    const double wanted = step < 10 ? static_cast<double>(step) / 10.0 : static_cast<double>(100 - step) / 90.0;
    EXPECT_DOUBLE_EQ(schedule_multiplier(options, step, 100), wanted) << step;
  }
}

TEST(Schedule, LinearWithoutWarmup_StartsAtOne) {
  const ScheduleOptions options{.lr_scheduler_type = SchedulerType::linear};

  EXPECT_DOUBLE_EQ(schedule_multiplier(options, 0, 4), 1.0);
  EXPECT_DOUBLE_EQ(schedule_multiplier(options, 1, 4), 0.75);
  EXPECT_DOUBLE_EQ(schedule_multiplier(options, 3, 4), 0.25);
}

TEST(Schedule, LinearBehindItsEnd_StaysAtZero) {
  EXPECT_EQ(schedule_multiplier({.lr_scheduler_type = SchedulerType::linear}, 7, 4), 0.0);
}

TEST(Schedule, LinearWithAWarmupLongerThanTheRun_OnlyRises) {
  const ScheduleOptions options{.lr_scheduler_type = SchedulerType::linear, .warmup_steps = 10};

  EXPECT_DOUBLE_EQ(schedule_multiplier(options, 4, 5), 0.4);
}

TEST(Schedule, Constant_HasNoWarmup) {
  const ScheduleOptions options{.lr_scheduler_type = SchedulerType::constant, .warmup_steps = 10};
  for (const std::int64_t step : {0, 5, 99, 200}) EXPECT_EQ(schedule_multiplier(options, step, 100), 1.0);
}

TEST(Schedule, ConstantWithWarmup_RisesThenStays) {
  const ScheduleOptions options{.lr_scheduler_type = SchedulerType::constant_with_warmup, .warmup_ratio = 0.04};

  EXPECT_EQ(schedule_multiplier(options, 0, 100), 0.0);
  EXPECT_DOUBLE_EQ(schedule_multiplier(options, 3, 100), 0.75);
  EXPECT_EQ(schedule_multiplier(options, 4, 100), 1.0);
  EXPECT_EQ(schedule_multiplier(options, 150, 100), 1.0);
}

}  // namespace
}  // namespace spillway::train
