// SPDX-License-Identifier: Apache-2.0
#include "support/run_program.hpp"

#include <csignal>

#include <gmock/gmock.h>
#include <gtest/gtest-spi.h>

namespace spillway::test {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

ProgramCall shell(const std::string& script) { return {.command = {"sh", "-c", script}}; }

TEST(RunProgram, GivesExitCodeAndBothStreams) {
  const ProgramResult result = run_program(shell("echo to out; echo to err >&2; exit 3"));

  EXPECT_EQ(result.exit_code, 3);
  EXPECT_EQ(result.out, "to out\n");
  EXPECT_EQ(result.err, "to err\n");
}

TEST(RunProgram, PassesDirectoryEnvironmentAndInputOn) {
  ProgramCall call = shell("pwd; echo $SPILLWAY_TEST_WORD; cat");
  call.directory = "/";
  call.environment = {{"SPILLWAY_TEST_WORD", "word"}};
  call.input = "a line";

  EXPECT_EQ(run_program(call).out, "/\nword\na line");
}

TEST(RunProgram, OneThatASignalEnded_HasTheShellsCode) { EXPECT_EQ(run_program(shell("kill -9 $$")).exit_code, 137); }

TEST(RunProgram, OneThatTakesTooLong_IsKilledWithItsChildrenAndFailsTheTest) {
  static ProgramResult result;

  EXPECT_NONFATAL_FAILURE(
      result = run_program(shell("echo begun >&2; (sleep 30; echo survived >&2) & wait"), std::chrono::seconds(1)),
      "begun");

  EXPECT_EQ(result.exit_code, 128 + SIGKILL);
}

TEST(Program, SeesTheProcessesThatItsProgramStarted) {
  Program program(shell("sleep 20 & sleep 20 & echo ready >&2; wait"));
  while (program.err() != "ready\n") {
  }

  EXPECT_THAT(program.children(), SizeIs(2));
}

TEST(OnRanks, StartsThatManyProcesses) {
  const ProgramResult result = run_program(on_ranks(2, {"sh", "-c", "echo $OMPI_COMM_WORLD_SIZE"}));

  EXPECT_EQ(result.out, "2\n2\n") << result.err;
}

}  // namespace
}  // namespace spillway::test
