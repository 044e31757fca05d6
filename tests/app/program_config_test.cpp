// SPDX-License-Identifier: Apache-2.0
// Wrong usage and configurations, as their authors meet them: exit codes 2 and 3.
#include <gmock/gmock.h>

#include "app/workplace.hpp"

namespace spillway::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class ProgramConfig : public testing::TestWithParam<int> {
 protected:
  /// Nothing of a refused run may be left, and no rank may print what another one says.
  void expect_refused(const ProgramResult& result, int exit_code, const std::string& message) {
    EXPECT_EQ(result.exit_code, exit_code) << describe(result);
    EXPECT_THAT(result.err, HasSubstr(message));
    EXPECT_EQ(result.err.find(message), result.err.rfind(message)) << "said more than once\n" << describe(result);
    EXPECT_THAT(result.out, IsEmpty());
    EXPECT_FALSE(place_.exists("out/checkpoints"));
  }

  int ranks_ = GetParam();
  Workplace place_;
};

INSTANTIATE_TEST_SUITE_P(Ranks, ProgramConfig, testing::Values(1, 2));

TEST_P(ProgramConfig, AllMistakesInTheNamesOfAFile_AreListedWithPlaceAndNearestKey) {
  place_.replace("run.toml", "logging_steps = 2", "loging_steps = 2");
  place_.replace("run.toml", "[optimizer]", "[optimiser]");

  const ProgramResult result = place_.train(ranks_);

  expect_refused(result, 2, "run.toml:17:1: unknown key train.loging_steps; the nearest is train.logging_steps");
  expect_refused(result, 2, "run.toml:19:1: unknown section [optimiser]; the nearest is [optimizer]");
}

TEST_P(ProgramConfig, AValueOfTheWrongType_IsRefusedWithBothTypes) {
  place_.replace("run.toml", "max_steps = 6", "max_steps = \"six\"");

  expect_refused(place_.train(ranks_), 2,
                 "run.toml:16:13: train.max_steps = \"six\": expected an integer of at least 0, found the string "
                 "\"six\"");
}

TEST_P(ProgramConfig, WhatIsNoToml_IsQuoted) {
  place_.replace("run.toml", "max_steps = 6", "max_steps 6");

  const ProgramResult result = place_.train(ranks_);

  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, AllOf(HasSubstr("run.toml:16:"), HasSubstr("not valid TOML"), HasSubstr("max_steps 6")));
}

TEST_P(ProgramConfig, ATimeoutThatNoCollectiveCouldKeepTo_IsRefused) {
  expect_refused(place_.train(ranks_, {"train.collective_timeout="}), 2,
                 "--set: train.collective_timeout = \"\": expected a duration of at least 1s, such as \"3h50m\", found "
                 "the string \"\"");
}

TEST_P(ProgramConfig, Fp16OnTheCpu_IsRefused) {
  expect_refused(place_.train(ranks_, {"train.device=cpu", "train.precision=fp16"}), 2,
                 "train.precision = \"fp16\" needs a GPU: on the CPU there are \"fp32\" and \"bf16\"");
}

TEST_P(ProgramConfig, AMisspeltKeyInTheEnvironment_NamesTheVariable) {
  ProgramCall call = place_.train_call(ranks_, {});
  call.environment["SPILLWAY_TRAIN_SEEED"] = "1";

  expect_refused(run_program(call), 2, "SPILLWAY_TRAIN_SEEED: unknown key train.seeed; the nearest is train.seed");
}

TEST_P(ProgramConfig, AMissingConfigurationFile_IsNamed) {
  expect_refused(place_.run(ranks_, {"train", "nope.toml"}), 2, "nope.toml: cannot be read: No such file or directory");
}

TEST_P(ProgramConfig, NoCommand_PointsToTheHelp) { expect_refused(place_.run(ranks_, {}), 2, "see spillway --help"); }

TEST_P(ProgramConfig, AnUnknownPreset_IsToldTheNearest) {
  expect_refused(place_.train(ranks_, {"model.path=t5-smal"}), 2,
                 "model.path = \"t5-smal\" is neither a directory nor a preset; the nearest preset is \"t5-small\"");
}

TEST_P(ProgramConfig, APresetWithoutRandomInitialisation_HasNoWeights) {
  expect_refused(place_.train(ranks_, {"model.path=t5-small", "model.init=pretrained"}), 2,
                 "model.path = \"t5-small\" is a preset, which has no weights");
}

TEST_P(ProgramConfig, AnOutputDirectoryBelowAFile_IsRefused) {
  expect_refused(place_.train(ranks_, {"train.output_dir=run.toml/out"}), 2,
                 "train.output_dir = \"run.toml/out\": Not a directory");
}

TEST_P(ProgramConfig, ACheckpointDirectoryBelowAFile_IsRefusedBeforeTraining) {
  expect_refused(place_.train(ranks_, {"checkpoint.dir=run.toml/checkpoints"}), 2,
                 "checkpoint.dir = \"run.toml/checkpoints\": Not a directory");
}

TEST_P(ProgramConfig, AnOffloadDirectoryThatIsMissing_IsRefused) {
  expect_refused(place_.train(ranks_, {"offload.exp_avg=nvme", "offload.nvme_dirs=[\"nowhere\"]"}), 2,
                 "offload.nvme_dirs: nowhere: No such file or directory");
}

TEST_P(ProgramConfig, AnOffloadDirectoryInMemory_IsRefused) {
  const ProgramResult result = place_.train(ranks_, {"offload.exp_avg=nvme", "offload.nvme_dirs=[\"/dev/shm\"]"});

  expect_refused(result, 2, "/dev/shm is a tmpfs");
}

TEST_P(ProgramConfig, APlanThatDoesNotFit_ShowsTheLedgerAndTheTierThatIsShort) {
  const ProgramResult result = place_.train(ranks_, {"memory.host=10MiB"});

  EXPECT_EQ(result.exit_code, 3) << describe(result);
  EXPECT_THAT(result.err, AllOf(HasSubstr("the plan does not fit: host: needs "), HasSubstr("memory.host"),
                                HasSubstr("allows "), HasSubstr(": short by "), HasSubstr("program and libraries")));
  EXPECT_THAT(result.err, Not(HasSubstr("[rank")));
  EXPECT_FALSE(place_.exists("out/checkpoints"));
}

TEST_P(ProgramConfig, ATierThatIsAskedForAndNotThere_IsNamed) {
  const ProgramResult result = place_.train(ranks_, {"offload.placement=nvme"});

  EXPECT_EQ(result.exit_code, 3) << describe(result);
  EXPECT_THAT(result.err, HasSubstr("there is no nvme tier: set offload.nvme_dirs"));
}

}  // namespace
}  // namespace spillway::test
