// SPDX-License-Identifier: Apache-2.0
// What runs leave in the directories of offload.nvme_dirs, and how state is spread over several of them.
#include <algorithm>
#include <csignal>
#include <filesystem>

#include <gmock/gmock.h>

#include "app/workplace.hpp"

namespace spillway::test {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class ProgramOffload : public testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    if (place_.in_memory()) GTEST_SKIP() << "the build folder is in memory";
    for (const char* drive : {"drive-0", "drive-1"}) fs::create_directory(place_.path(drive));
  }
  /// State on two drives, in many extents.
  [[nodiscard]] ProgramCall offloading(const std::string& output, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> settings = {"offload.placement=nvme", "offload.nvme_dirs=[\"drive-0\", \"drive-1\"]",
                                         "offload.extent_size=4KiB", "eval.predict_with_generate=false",
                                         "train.output_dir=" + output};
    settings.insert(settings.end(), more.begin(), more.end());
    return place_.train_call(GetParam(), settings);
  }
  [[nodiscard]] ProgramCall endless(const std::string& output) const {
    return offloading(output, {"train.max_steps=100000000", "train.logging_steps=20", "checkpoint.save_steps=0"});
  }
  [[nodiscard]] std::vector<fs::path> folders(const std::string& drive) const {
    std::vector<fs::path> found;
    for (const auto& entry : fs::directory_iterator(place_.path(drive))) found.push_back(entry.path());
    std::ranges::sort(found);
    return found;
  }
  static void wait_for_steps(const Program& program) {
    ASSERT_TRUE(wait_until([&] { return program.err().find("\nstep ") != std::string::npos; })) << program.err();
  }
  /// As a machine that is switched off would.
  static void kill_ranks(Program& program) {
    std::vector<pid_t> ranks = GetParam() == 1 ? std::vector<pid_t>{program.pid()} : program.children();
    for (const pid_t rank : ranks) ::kill(rank, SIGKILL);
    (void)program.wait();
  }

  Workplace place_;
};

INSTANTIATE_TEST_SUITE_P(Ranks, ProgramOffload, testing::Values(1, 2));

TEST_P(ProgramOffload, WhatAKilledRunLeft_GoesAtTheNextStart_AndARunningOnesStays) {
  const auto ranks = static_cast<std::size_t>(GetParam());
  Program killed(endless("killed"));
  wait_for_steps(killed);
  kill_ranks(killed);
  const std::vector<fs::path> left = folders("drive-0");
  ASSERT_THAT(left, SizeIs(ranks));
  ASSERT_THAT(folders("drive-1"), SizeIs(ranks));
  EXPECT_TRUE(fs::exists(left[0] / "extents-0"));
  Program running(endless("running"));
  wait_for_steps(running);

  const ProgramResult next = run_program(offloading("next"));

  EXPECT_EQ(next.exit_code, 0) << describe(next);
  for (const char* drive : {"drive-0", "drive-1"}) {
    const std::vector<fs::path> there = folders(drive);
    EXPECT_THAT(there, SizeIs(ranks)) << drive << ": those of the run that goes on";
    for (const fs::path& folder : there) EXPECT_EQ(std::ranges::count(left, folder), 0) << folder;
    if (GetParam() == 1) {  // of several ranks any may have come first, and only one speaks
      EXPECT_THAT(running.err(), HasSubstr(std::string("removed ") + drive + "/spillway-"));
    }
  }
  const std::size_t steps = running.err().size();
  EXPECT_TRUE(wait_until([&] { return running.err().size() > steps; })) << "it does not go on";
  kill_ranks(running);
}

TEST_P(ProgramOffload, SeveralDirectories_ShareTheBytes) {
  Program program(endless("out"));
  wait_for_steps(program);

  std::vector<std::uintmax_t> bytes;
  for (const char* drive : {"drive-0", "drive-1"}) {
    bytes.push_back(0);
    for (const fs::path& folder : folders(drive))
      for (const auto& file : fs::directory_iterator(folder)) {
        bytes.back() += file.file_size();
        EXPECT_EQ(file.status().permissions(), fs::perms::owner_read | fs::perms::owner_write) << file;
      }
  }
  kill_ranks(program);

  EXPECT_GT(bytes[0], 0U);
  EXPECT_NEAR(static_cast<double>(bytes[1]), static_cast<double>(bytes[0]), 0.2 * static_cast<double>(bytes[0]));
}

TEST_P(ProgramOffload, ADirectoryThatCannotBeUsed_IsNamed_AndNothingIsLeft) {
  place_.write("a-file", "");
  for (const auto& [directory, reason] :
       {std::pair<std::string, std::string>{"drive-2", "No such file or directory"}, {"a-file", "Not a directory"}}) {
    const ProgramResult result =
        run_program(offloading("out", {"offload.nvme_dirs=[\"drive-0\", \"" + directory + "\"]"}));

    EXPECT_EQ(result.exit_code, 2) << describe(result);
    EXPECT_THAT(result.err, AllOf(HasSubstr(directory), HasSubstr(reason)));
    EXPECT_THAT(folders("drive-0"), IsEmpty());
  }
}

}  // namespace
}  // namespace spillway::test
