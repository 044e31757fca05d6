// SPDX-License-Identifier: Apache-2.0
#include "core/error.hpp"

#include <cerrno>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace spillway {
namespace {

using testing::EndsWith;
using testing::StrEq;

TEST(Error, KindsHaveTheExitCodesOfTheContract) {
  EXPECT_EQ(Error("").exit_code(), ExitCode::internal);
  EXPECT_EQ(ConfigError("").exit_code(), ExitCode::config);
  EXPECT_EQ(NotCompiled("").exit_code(), ExitCode::config);
  EXPECT_EQ(PlanError("").exit_code(), ExitCode::plan);
  EXPECT_EQ(DataError("").exit_code(), ExitCode::data);
  EXPECT_EQ(IoError("").exit_code(), ExitCode::failure);
  EXPECT_EQ(CommunicationError("").exit_code(), ExitCode::failure);
  EXPECT_EQ(CudaError("").exit_code(), ExitCode::failure);
}

TEST(Error, ExitCodesAreTheNumbersThatScriptsTest) {
  EXPECT_EQ(static_cast<int>(ExitCode::done), 0);
  EXPECT_EQ(static_cast<int>(ExitCode::internal), 1);
  EXPECT_EQ(static_cast<int>(ExitCode::config), 2);
  EXPECT_EQ(static_cast<int>(ExitCode::plan), 3);
  EXPECT_EQ(static_cast<int>(ExitCode::data), 4);
  EXPECT_EQ(static_cast<int>(ExitCode::failure), 5);
  EXPECT_EQ(static_cast<int>(ExitCode::stopped), 75);
}

TEST(Error, KnowsWhereItWasMade) {
  const DataError error("line 7");
  const auto line = static_cast<unsigned>(__LINE__) - 1;

  EXPECT_STREQ(error.what(), "line 7");
  EXPECT_THAT(error.where().file_name(), EndsWith("error_test.cpp"));
  EXPECT_EQ(error.where().line(), line);
}

TEST(IoError, AppendsTheSystemsReasonIfThereIsOne) {
  const IoError full("moments.bin", ENOSPC);

  EXPECT_THAT(full.what(), StrEq("moments.bin: No space left on device"));
  EXPECT_EQ(full.error_number(), ENOSPC);
  EXPECT_THAT(IoError("moments.bin: checksum differs").what(), StrEq("moments.bin: checksum differs"));
}

}  // namespace
}  // namespace spillway
