// SPDX-License-Identifier: Apache-2.0
#include "train/slurm_job.hpp"

#include <gmock/gmock.h>

#include "core/error.hpp"

namespace spillway::train {
namespace {

using namespace std::chrono_literals;
using std::chrono::system_clock;
using ::testing::HasSubstr;

TEST(SlurmJob, OutsideOfSlurm_HasNeitherEndNorSignal) {
  for (const char* nothing : {static_cast<const char*>(nullptr), ""}) {
    const SlurmJob job = slurm_job(nothing, nothing);

    EXPECT_FALSE(job.end);
    EXPECT_FALSE(job.signal_lead);
  }
}

TEST(SlurmJob, ReadsSeconds) {
  const SlurmJob job = slurm_job("1790000000", "120");

  EXPECT_EQ(job.end, system_clock::time_point(1790000000s));
  EXPECT_EQ(job.signal_lead, 120s);
}

TEST(SlurmJob, WithoutTimeLimit_HasNoEnd) {
  for (const char* mark : {"0", "4294967295", "18446744073709551615"})
    EXPECT_FALSE(slurm_job(mark, nullptr).end) << mark;
}

TEST(SlurmJob, WhatIsNoNumber_IsRefusedByName) {
  for (const char* text : {"soon", "12s", "-1", " 1"}) {
    EXPECT_THAT([&] { (void)slurm_job(text, nullptr); },
                testing::ThrowsMessage<ConfigError>(HasSubstr("SLURM_JOB_END_TIME")));
    EXPECT_THAT([&] { (void)slurm_job(nullptr, text); },
                testing::ThrowsMessage<ConfigError>(HasSubstr("SPILLWAY_SIGNAL_SECONDS")));
  }
}

TEST(SteadyEnd, IsAsFarAwayAsTheEnd) {
  const SlurmJob job = slurm_job("1790000000", nullptr);

  const auto end = steady_end(job, system_clock::time_point(1789999000s));

  ASSERT_TRUE(end);
  EXPECT_NEAR(std::chrono::duration<double>(*end - std::chrono::steady_clock::now()).count(), 1000.0, 5.0);
}

TEST(SteadyEnd, OfAJobThatIsOver_IsNone) {
  EXPECT_FALSE(steady_end(slurm_job("1790000000", nullptr), system_clock::time_point(1790000001s)));
}

TEST(LateSignal, OnlyWhereItLeavesLessThanIsNeeded) {
  EXPECT_EQ(late_signal(slurm_job(nullptr, nullptr), 1000.0), "");
  EXPECT_EQ(late_signal(slurm_job(nullptr, "120"), 119.0), "");
  EXPECT_THAT(late_signal(slurm_job(nullptr, "120"), 200.0),
              testing::AllOf(HasSubstr("200 s"), HasSubstr("120 s before"), HasSubstr("--signal=B:USR1@300")));
}

}  // namespace
}  // namespace spillway::train
