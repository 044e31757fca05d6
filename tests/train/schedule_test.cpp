// SPDX-License-Identifier: Apache-2.0
#include "train/schedule.hpp"

#include <fstream>
#include <map>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/error.hpp"

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

TEST(Schedule, IsTransformers_AtEveryStep) {
  const std::map<std::string, SchedulerType> types = {{"linear", SchedulerType::linear},
                                                      {"constant", SchedulerType::constant},
                                                      {"constant_with_warmup", SchedulerType::constant_with_warmup},
                                                      {"cosine", SchedulerType::cosine},
                                                      {"cosine_with_restarts", SchedulerType::cosine_with_restarts},
                                                      {"polynomial", SchedulerType::polynomial},
                                                      {"inverse_sqrt", SchedulerType::inverse_sqrt}};
  std::ifstream file(std::string(SPILLWAY_TEST_REFERENCE) + "/schedules.json");
  const auto cases = nlohmann::json::parse(file).at("schedules");
  EXPECT_EQ(cases.size(), 2 * types.size());
  for (const auto& wanted : cases) {
    const ScheduleOptions options{.lr_scheduler_type = types.at(wanted.at("lr_scheduler_type").get<std::string>()),
                                  .warmup_steps = wanted.at("warmup_steps").get<std::int64_t>()};
    const auto learning_rate = wanted.at("learning_rate").get<double>();
    const auto rates = wanted.at("rates").get<std::vector<double>>();
    ASSERT_EQ(rates.size(), wanted.at("steps").get<std::size_t>() + 1);
    for (std::size_t step = 0; step < rates.size(); ++step)
      EXPECT_NEAR(learning_rate_at(options, learning_rate, static_cast<std::int64_t>(step), wanted.at("steps")),
                  rates[step], 1e-8 * learning_rate)  // nine digits are kept
          << wanted.at("lr_scheduler_type") << ", warm-up " << options.warmup_steps << ", step " << step;
  }
}

TEST(Schedule, TakesTheWarmupFromTheRatio) {
  const ScheduleOptions options{.lr_scheduler_type = SchedulerType::constant_with_warmup, .warmup_ratio = 0.04};

  EXPECT_EQ(learning_rate_at(options, 0.5, 0, 100), 0.0);
  EXPECT_DOUBLE_EQ(learning_rate_at(options, 0.5, 3, 100), 0.375);
  EXPECT_EQ(learning_rate_at(options, 0.5, 4, 100), 0.5);
}

TEST(Schedule, BehindItsEnd_StaysAtTheEnd) {
  const auto behind = [](SchedulerType type) { return learning_rate_at({.lr_scheduler_type = type}, 1.0, 7, 4); };

  EXPECT_EQ(behind(SchedulerType::linear), 0.0);
  EXPECT_EQ(behind(SchedulerType::cosine_with_restarts), 0.0);
  EXPECT_DOUBLE_EQ(behind(SchedulerType::polynomial), 1e-7);
}

TEST(Schedule, WithAWarmupLongerThanTheRun_OnlyRises) {
  for (const SchedulerType type : {SchedulerType::linear, SchedulerType::cosine, SchedulerType::inverse_sqrt})
    EXPECT_DOUBLE_EQ(learning_rate_at({.lr_scheduler_type = type, .warmup_steps = 10}, 1.0, 4, 5), 0.4);
}

TEST(Schedule, PolynomialFromBelowItsEnd_IsRefused) {
  const ScheduleOptions polynomial{.lr_scheduler_type = SchedulerType::polynomial};

  EXPECT_THROW(check_schedule(polynomial, 1e-7), ConfigError);
  EXPECT_NO_THROW(check_schedule(polynomial, 1e-6));
  EXPECT_NO_THROW(check_schedule({}, 0.0));
}

}  // namespace
}  // namespace spillway::train
