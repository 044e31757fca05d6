// SPDX-License-Identifier: Apache-2.0
#include "core/log.hpp"

#include <gtest/gtest.h>

namespace spillway {
namespace {

std::string printed_by(int rank, const char* host = "") {
  log::start(rank, false, host);
  testing::internal::CaptureStderr();
  log::info("an information");
  log::warning("a warning");
  log::error("an error");
  return testing::internal::GetCapturedStderr();
}

TEST(Log, RankZeroSpeaks) { EXPECT_EQ(printed_by(0), "an information\nwarning: a warning\nan error\n"); }

TEST(Log, OtherRanksSpeakOnlyInErrorsAndSayWhoTheyAre) { EXPECT_EQ(printed_by(3), "[rank 3] an error\n"); }

TEST(Log, OnSeveralMachinesErrorsNameTheirs) {
  EXPECT_EQ(printed_by(3, "node7"), "[rank 3 on node7] an error\n");
  EXPECT_EQ(printed_by(0, "node1"), "an information\nwarning: a warning\nan error\n");
}

}  // namespace
}  // namespace spillway
