// SPDX-License-Identifier: Apache-2.0
// Disks that are full: exit code 5 with the file, no rank that hangs, and earlier checkpoints as they were.
#include <filesystem>

#include <gmock/gmock.h>

#include "app/workplace.hpp"

namespace spillway::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class ProgramDisk : public testing::TestWithParam<int> {
 protected:
  /// Runs `script` in a shell, with the call's command as its arguments.
  [[nodiscard]] static ProgramResult in_shell(ProgramCall call, std::vector<std::string> shell,
                                              const std::string& script) {
    shell.insert(shell.end(), {"sh", "-c", script, "sh"});
    call.command.insert(call.command.begin(), shell.begin(), shell.end());
    return run_program(call);
  }

  Workplace place_;
};

INSTANTIATE_TEST_SUITE_P(Ranks, ProgramDisk, testing::Values(1, 2));

TEST_P(ProgramDisk, WithoutRoomForTheNextCheckpoint_SaysSoBeforeItIsBegun) {
  // A mount of its own, which goes with the shell. Room for one checkpoint and a half.
  const std::vector<std::string> own_mounts = {"unshare", "--map-root-user", "--mount"};
  place_.write("full/note", "");
  const std::string mount = "mount -t tmpfs -o size=768k none full && ";
  if (in_shell({.command = {}, .directory = place_.path(".")}, own_mounts, mount + "true").exit_code != 0)
    GTEST_SKIP() << "a file system cannot be mounted here";
  const ProgramCall call = place_.train_call(
      GetParam(), {"checkpoint.dir=full/checkpoints", "checkpoint.save_steps=1", "checkpoint.save_total_limit=0"});

  const ProgramResult result = in_shell(call, own_mounts,
                                        mount +
                                            "{ \"$@\"; code=$?; cp -r full/checkpoints kept; } && "
                                            "exit $code");

  EXPECT_EQ(result.exit_code, 5) << describe(result);
  const std::string message = "step 2 was not saved: ";
  EXPECT_THAT(result.err,
              AllOf(HasSubstr(message), HasSubstr("full/checkpoints: "),
                    HasSubstr(" bytes are free, a checkpoint takes "), HasSubstr("No space left on device")));
  EXPECT_EQ(result.err.find(message), result.err.rfind(message)) << "said more than once\n" << describe(result);
  EXPECT_FALSE(place_.exists("kept/step-000000002"));
  EXPECT_FALSE(place_.exists("kept/step-000000002.tmp"));
  const ProgramResult verified = place_.run(1, {"checkpoint", "verify", "kept/step-000000001"});
  EXPECT_EQ(verified.exit_code, 0) << describe(verified);
  EXPECT_THAT(place_.read("kept/LATEST"), HasSubstr("step-000000001"));
}

TEST_P(ProgramDisk, FullDuringACheckpoint_NamesTheFileAndLeavesTheEarlierOnes) {
  // 25 MB of state, and a limit of 10 MiB on the size of files for a disk that another program fills.
  place_.replace("model/config.json", "\"d_ff\": 64", "\"d_ff\": 16384");
  const std::vector<std::string> settings = {"checkpoint.export=false", "eval.predict_with_generate=false"};
  auto first = settings, second = settings;
  first.insert(first.end(), {"train.max_steps=3"});
  second.insert(second.end(), {"train.max_steps=9", "checkpoint.save_steps=5"});
  ASSERT_EQ(place_.train(GetParam(), first).exit_code, 0);

  const ProgramResult result = in_shell(place_.train_call(GetParam(), second), {}, "ulimit -f 20480 && exec \"$@\"");

  EXPECT_EQ(result.exit_code, 5) << describe(result);
  EXPECT_THAT(result.err,
              AllOf(HasSubstr("resumed from out/checkpoints/step-000000003"), HasSubstr("step 5 was not saved: "),
                    HasSubstr("out/checkpoints/step-000000005.tmp/rank-0000"), HasSubstr("File too large")));
  EXPECT_EQ(run_program({.command = {"ls", place_.path("out/checkpoints")}}).out, "LATEST\nlock\nstep-000000003\n");
  EXPECT_EQ(place_.run(1, {"checkpoint", "verify", "out/checkpoints/step-000000003"}).exit_code, 0);
}

TEST_P(ProgramDisk, AFolderOfCheckpointsThatVanishes_IsMadeAnew) {
  Program program(place_.train_call(
      GetParam(), {"train.max_steps=100000000", "checkpoint.save_steps=20", "train.logging_steps=1000000"}));
  ASSERT_TRUE(wait_until([&] { return place_.exists("out/checkpoints/LATEST"); })) << program.err();

  std::filesystem::rename(place_.path("out/checkpoints"), place_.path("gone"));

  // What was being saved then cannot be; whatever is between saves goes on.
  const bool anew = wait_until([&] {
    return place_.exists("out/checkpoints/LATEST") || program.err().find(" was not saved: ") != std::string::npos;
  });
  ASSERT_TRUE(anew) << program.err();
  if (program.err().find(" was not saved: ") != std::string::npos) {
    const ProgramResult result = program.wait();
    EXPECT_EQ(result.exit_code, 5) << describe(result);
    EXPECT_THAT(result.err, HasSubstr("out/checkpoints/"));
  }
  const std::string latest = lines_of(place_.read("gone/LATEST")).at(0);
  EXPECT_EQ(place_.run(1, {"checkpoint", "verify", "gone/" + latest}).exit_code, 0);
}

TEST_P(ProgramDisk, FullBehindStandardOutput_IsAnError) {
  if (GetParam() > 1) GTEST_SKIP() << "the launcher's standard output is not ours";

  const ProgramResult result =
      in_shell(place_.call(1, {"train", "run.toml", "--print-config"}), {}, "exec \"$@\" > /dev/full");

  EXPECT_EQ(result.exit_code, 5) << describe(result);
  EXPECT_THAT(result.err, HasSubstr("standard output could not be written"));
}

TEST_P(ProgramDisk, WithoutRoomForOffloadedState_NamesTheFileAndItsSize) {
  if (place_.in_memory()) GTEST_SKIP() << "the build folder is in memory";
  // A limit on the size of files stands for a disk that is full: 33 MiB of each moment, 24 MiB allowed.
  place_.replace("model/config.json", "\"d_ff\": 64", "\"d_ff\": 65536");
  place_.write("nvme/note", "");
  const ProgramCall call = place_.train_call(GetParam(), {"offload.placement=nvme", "offload.nvme_dirs=[\"nvme\"]"});

  const ProgramResult result = in_shell(call, {}, "ulimit -f 49152 && exec \"$@\"");

  EXPECT_EQ(result.exit_code, 5) << describe(result);
  EXPECT_THAT(result.err, AllOf(HasSubstr("nvme/spillway-"), HasSubstr("/extents-0"), HasSubstr("bytes"),
                                HasSubstr("File too large"), Not(HasSubstr("internal error"))));
  EXPECT_FALSE(place_.exists("out/checkpoints"));
  const ProgramResult left = run_program({.command = {"ls", place_.path("nvme")}});
  EXPECT_EQ(left.out, "note\n");
}

}  // namespace
}  // namespace spillway::test
