// SPDX-License-Identifier: Apache-2.0
// A training run that goes well: the files that it leaves, running it again, and what it prints.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <nlohmann/json.hpp>
#include <sys/file.h>
#include <unistd.h>

#include "app/workplace.hpp"

namespace spillway::test {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::StartsWith;

/// One run for each number of ranks, which the tests only read.
struct Trained {
  explicit Trained(int ranks) : result(place.train(ranks)) {}
  Workplace place;
  ProgramResult result;
};

const Trained& trained(int ranks) {
  static const Trained by_one(1);
  static const Trained by_two(2);
  return ranks == 1 ? by_one : by_two;
}

class ProgramTrained : public testing::TestWithParam<int> {
 protected:
  void SetUp() override { ASSERT_EQ(run_.result.exit_code, 0) << describe(run_.result); }
  const Trained& run_ = trained(GetParam());
  const Workplace& place_ = run_.place;
};

INSTANTIATE_TEST_SUITE_P(Ranks, ProgramTrained, testing::Values(1, 2));

TEST_P(ProgramTrained, MetricsHoldALineForEachLoggedStepAndOneForTheEvaluation) {
  std::vector<int> steps;
  for (const std::string& line : lines_of(place_.read("out/metrics.jsonl"))) {
    const json object = json::parse(line);
    steps.push_back(object.at("step"));
    const auto expect_keys = [&](const std::vector<std::string>& keys) {
      for (const std::string& key : keys) EXPECT_TRUE(object.contains(key)) << key << " in " << line;
    };
    if (object.contains("loss")) {
      expect_keys({"epoch", "grad_norm", "learning_rate", "skipped", "seconds_per_step", "tokens_per_second",
                   "samples_per_second", "device_bytes", "host_bytes", "nvme_read_bytes", "nvme_write_bytes",
                   "resources"});
      for (const char* stall : {"h2d", "d2h", "nvme", "collective", "cpu_update", "checkpoint"})
        EXPECT_TRUE(object.at("stall_seconds").contains(stall)) << stall;
    } else {
      expect_keys({"epoch", "eval_loss", "eval_bleu", "eval_gen_len", "eval_runtime", "eval_samples_per_second"});
    }
  }
  EXPECT_THAT(steps, ElementsAre(2, 4, 6, 6));
}

TEST_P(ProgramTrained, TheLossFalls) {
  const auto lines = lines_of(place_.read("out/metrics.jsonl"));

  EXPECT_LT(json::parse(lines[2]).at("loss"), json::parse(lines[0]).at("loss"));
}

TEST_P(ProgramTrained, AllResultsHaveHuggingFacesNames) {
  const json results = json::parse(place_.read("out/all_results.json"));

  for (const char* key : {"epoch", "train_loss", "train_runtime", "train_samples", "train_samples_per_second",
                          "eval_loss", "eval_bleu", "eval_gen_len", "eval_samples", "eval_runtime"})
    EXPECT_TRUE(results.contains(key)) << key;
  EXPECT_EQ(results.at("train_samples"), 30);
  EXPECT_EQ(results.at("eval_samples"), 7);
}

TEST_P(ProgramTrained, ThePlanHoldsTheLedger) {
  const json plan = json::parse(place_.read("out/plan.json"));

  EXPECT_EQ(plan.at("ranks"), GetParam());
  EXPECT_GT(plan.at("ledger_of_one_rank").size(), 5U);
  EXPECT_GT(plan.at("peak_bytes_of_one_rank").at("device"), 0);
}

TEST_P(ProgramTrained, ThereIsAPredictionForEachHeldOutPair) {
  EXPECT_THAT(lines_of(place_.read("out/generated_predictions.txt")), SizeIs(7));
}

TEST_P(ProgramTrained, CheckpointsAndModelAreThere) {
  EXPECT_TRUE(place_.exists("out/checkpoints/step-000000003/manifest.json"));
  EXPECT_TRUE(place_.exists("out/checkpoints/step-000000006/checkpoint.h5"));
  EXPECT_TRUE(place_.exists(GetParam() == 1 ? "out/checkpoints/step-000000006/rank-00000-of-00001.h5"
                                            : "out/checkpoints/step-000000006/rank-00001-of-00002.h5"));
  EXPECT_THAT(place_.read("out/checkpoints/LATEST"), StartsWith("step-000000006"));
  EXPECT_EQ(json::parse(place_.read("out/model/config.json")).at("d_model"), 32);
  EXPECT_TRUE(place_.exists("out/model/model.safetensors"));
  EXPECT_FALSE(place_.exists("out/REQUEUE"));
}

TEST_P(ProgramTrained, WhileAnotherRunSavesThere_IsRefused) {
  const Workplace place;
  place.write("out/checkpoints/lock", "process 12 on elsewhere");
  const int other = ::open(place.path("out/checkpoints/lock").c_str(), O_RDONLY | O_CLOEXEC);
  ASSERT_EQ(::flock(other, LOCK_EX), 0);

  const ProgramResult refused = place.train(GetParam());
  ::close(other);
  const ProgramResult alone = place.train(GetParam());

  EXPECT_EQ(refused.exit_code, 2) << describe(refused);
  EXPECT_THAT(refused.err,
              HasSubstr("out/checkpoints: another run saves its checkpoints here: process 12 on elsewhere; wait"));
  EXPECT_EQ(alone.exit_code, 0) << describe(alone);
}

TEST_P(ProgramTrained, TheLogGoesToStandardErrorWithoutColour) {
  EXPECT_THAT(run_.result.out, IsEmpty());
  EXPECT_THAT(run_.result.err, AllOf(HasSubstr("step 6/6"), Not(HasSubstr("\033["))));
}

TEST_P(ProgramTrained, RunningItsConfigTomlAgain_SaysThatNothingIsLeft) {
  const ProgramResult again = place_.run(GetParam(), {"train", "out/config.toml"});

  EXPECT_EQ(again.exit_code, 0) << describe(again);
  EXPECT_THAT(again.err, HasSubstr("out/checkpoints/step-000000006 is at step 6 of 6: there is nothing left to train"));
}

TEST_P(ProgramTrained, ItsConfigTomlWithoutResuming_RepeatsTheRun) {
  const std::string output = "again-" + std::to_string(GetParam());

  const ProgramResult again =
      place_.run(GetParam(), {"train", "out/config.toml", "--resume", "none", "--set", "train.output_dir=" + output});

  ASSERT_EQ(again.exit_code, 0) << describe(again);
  EXPECT_EQ(place_.read(output + "/model/model.safetensors"), place_.read("out/model/model.safetensors"));
}

TEST(ProgramTrain, ByOneAndByTwoRanks_GivesTheSameLosses) {
  const auto one = lines_of(trained(1).place.read("out/metrics.jsonl"));
  const auto two = lines_of(trained(2).place.read("out/metrics.jsonl"));

  for (std::size_t i = 0; i < 3; ++i)
    EXPECT_NEAR(json::parse(one.at(i)).at("loss"), json::parse(two.at(i)).at("loss"), 1e-4);
}

TEST(ProgramTrain, DryRun_PrintsTheLedgerAndWritesNothing) {
  const Workplace place;

  for (const int ranks : {1, 2}) {
    const ProgramResult result = place.run(ranks, {"train", "run.toml", "--dry-run"});

    EXPECT_EQ(result.exit_code, 0) << describe(result);
    EXPECT_THAT(result.out, AllOf(StartsWith("tier "), HasSubstr("exp_avg_sq"), HasSubstr("total")));
    EXPECT_FALSE(place.exists("out"));
  }
}

TEST(ProgramTrain, PrintConfig_GivesAFileThatSaysTheSame) {
  const Workplace place;

  const ProgramResult first =
      place.run(2, {"train", "run.toml", "--print-config", "--set", "train.seed=7", "--set", "eval.num_beams=3"});
  place.write("printed.toml", first.out);
  const ProgramResult second = place.run(1, {"train", "printed.toml", "--print-config"});

  EXPECT_EQ(first.exit_code, 0) << describe(first);
  EXPECT_THAT(first.out, AllOf(HasSubstr("seed = 7\n"), HasSubstr("num_beams = 3\n"), HasSubstr("max_steps = 6\n")));
  EXPECT_EQ(second.out, first.out) << describe(second);
  EXPECT_FALSE(place.exists("out"));
}

TEST(ProgramTrain, TheEnvironmentGoesBeforeTheFileAndSetBeforeTheEnvironment) {
  const Workplace place;
  place.replace("run.toml", "logging_steps = 2", "logging_steps = 2\nseed = 1");
  ProgramCall by_environment = place.call(1, {"train", "run.toml", "--print-config"});
  by_environment.environment["SPILLWAY_TRAIN_SEED"] = "2";
  ProgramCall by_set = place.call(1, {"train", "run.toml", "--print-config", "--set", "train.seed=3"});
  by_set.environment["SPILLWAY_TRAIN_SEED"] = "2";

  EXPECT_THAT(place.run(1, {"train", "run.toml", "--print-config"}).out, HasSubstr("\nseed = 1\n"));
  EXPECT_THAT(run_program(by_environment).out, HasSubstr("\nseed = 2\n"));
  EXPECT_THAT(run_program(by_set).out, HasSubstr("\nseed = 3\n"));
}

TEST(ProgramTrain, OnATerminal_ShowsABar_InColoursOnlyWithoutNoColor) {
  const Workplace place;
  const ProgramResult probe = run_program({.command = {"script", "-qec", "true", "/dev/null"}});
  if (probe.exit_code != 0) GTEST_SKIP() << "there is no script(1) to give the program a terminal";
  ProgramCall call = place.train_call(1, {"train.logging_steps=3"});
  std::string line;
  for (const std::string& word : call.command) line += "'" + word + "' ";
  call.command = {"script", "-qec", line, "/dev/null"};
  ProgramCall without = call;
  without.command[2] += "--set train.output_dir=without";
  without.environment["NO_COLOR"] = "1";

  const ProgramResult coloured = run_program(call);
  const ProgramResult plain = run_program(without);

  for (const ProgramResult& result : {coloured, plain}) {
    EXPECT_EQ(result.exit_code, 0) << describe(result);
    // The first step is drawn at once, the last in any case.
    EXPECT_THAT(result.out, AllOf(HasSubstr("\r\033[K[#####.........................] 1/6 "),
                                  HasSubstr("\r\033[K[##############################] 6/6 ")));
  }
  // The bar is gone before a line of the log.
  EXPECT_THAT(coloured.out, HasSubstr("\r\033[K\033[32mstep 3/6"));
  EXPECT_THAT(plain.out, AllOf(HasSubstr("\r\033[Kstep 3/6"), Not(HasSubstr("\033[3"))));
}

TEST(ProgramTrain, InitWritesAConfigurationThatTrainReads) {
  const Workplace place;

  ASSERT_EQ(place.run(1, {"init", "--model", "model", "--output", "new.toml"}).exit_code, 0);
  const ProgramResult printed = place.run(1, {"train", "new.toml", "--print-config"});

  EXPECT_EQ(printed.exit_code, 0) << describe(printed);
  EXPECT_THAT(printed.out, HasSubstr("path = \"model\"\n"));
}

}  // namespace
}  // namespace spillway::test
