// SPDX-License-Identifier: Apache-2.0
// Runs that do not come to their end: stopped on request, killed, or with a rank lost. What they leave, and what the next does
// with it.
#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>

#include <gmock/gmock.h>

#include "app/workplace.hpp"

namespace spillway::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr const char* kEndless = "train.max_steps=100000000";

/// Stopped runs come to rest at any step, so they log and save only now and then.
std::vector<std::string> quietly(std::vector<std::string> settings) {
  settings.insert(settings.end(), {"train.logging_steps=20", "checkpoint.save_steps=0"});
  return settings;
}

class ProgramStop : public testing::TestWithParam<int> {
 protected:
  /// Once it trains, or has said something else.
  void send(const Program& program, int signal, const std::string& after = "\nstep ") const {
    ASSERT_TRUE(wait_until([&] { return program.err().find(after) != std::string::npos; })) << program.err();
    if (GetParam() == 1) ::kill(program.pid(), signal);
    for (const pid_t rank : GetParam() == 1 ? std::vector<pid_t>{} : program.children()) ::kill(rank, signal);
  }
  /// A launcher may hide the code.
  void expect_stopped(const ProgramResult& result, const std::string& reason) const {
    if (GetParam() == 1) {
      EXPECT_EQ(result.exit_code, 75) << describe(result);
    }
    EXPECT_NE(result.exit_code, 0);
    EXPECT_THAT(result.err, AllOf(HasSubstr("\nsaved out/checkpoints/step-"), HasSubstr(reason)));
    ASSERT_TRUE(place_.exists("out/REQUEUE")) << describe(result);
    EXPECT_THAT(place_.read("out/REQUEUE"), HasSubstr(reason));
    EXPECT_FALSE(place_.exists("out/model"));
  }

  Workplace place_;
};

INSTANTIATE_TEST_SUITE_P(Ranks, ProgramStop, testing::Values(1, 2));

TEST_P(ProgramStop, Usr1_SavesAndAsksToBeRequeued_AndTheNextRunGoesOn) {
  Program first(place_.train_call(GetParam(), quietly({kEndless})));
  send(first, SIGUSR1);
  expect_stopped(first.wait(), "by a signal");

  Program next(place_.train_call(GetParam(), quietly({kEndless})));

  ASSERT_TRUE(wait_until([&] { return next.err().find("\nstep ") != std::string::npos; })) << next.err();
  EXPECT_THAT(next.err(), HasSubstr("resumed from out/checkpoints/step-"));
  EXPECT_FALSE(place_.exists("out/REQUEUE"));
  send(next, SIGUSR1);
  expect_stopped(next.wait(), "by a signal");
}

TEST_P(ProgramStop, Term_DoesTheSame) {
  Program program(place_.train_call(GetParam(), quietly({kEndless})));

  send(program, SIGTERM);

  expect_stopped(program.wait(), "by a signal");
}

TEST(ProgramStopOfOneRank, Usr1WhileItStarts_IsNotLost) {
  Workplace place;
  Program program(place.train_call(1, quietly({kEndless})));

  // Once it is the program and not the shell's copy of this one, and long before it has read its data.
  ASSERT_TRUE(wait_until([&] {
    std::ifstream status("/proc/" + std::to_string(program.pid()) + "/status");
    for (std::string line; std::getline(status, line);)
      if (line.starts_with("SigCgt:")) return (std::stoull(line.substr(7), nullptr, 16) >> (SIGUSR1 - 1) & 1) != 0;
    return false;
  }));
  ::kill(program.pid(), SIGUSR1);

  const ProgramResult result = program.wait(std::chrono::seconds(20));
  EXPECT_EQ(result.exit_code, 75) << describe(result);
  EXPECT_TRUE(place.exists("out/REQUEUE"));
}

TEST_P(ProgramStop, Int_DoesTheSame) {
  Program program(place_.train_call(GetParam(), quietly({kEndless})));

  send(program, SIGINT);

  expect_stopped(program.wait(), "by a signal");
}

TEST_P(ProgramStop, ASecondTerm_LeavesAtOnce) {
  // After the first step an evaluation begins that takes long, and a stop waits for it.
  Program program(
      place_.train_call(GetParam(), {kEndless, "checkpoint.save_steps=0", "train.logging_steps=1", "eval.eval_steps=1",
                                     "eval.num_beams=16", "eval.max_length=2000", "eval.length_penalty=5"}));

  send(program, SIGTERM);
  std::this_thread::sleep_for(std::chrono::milliseconds(400));
  send(program, SIGTERM);

  const ProgramResult result = program.wait(std::chrono::seconds(10));
  EXPECT_NE(result.exit_code, 75) << describe(result);
  if (GetParam() == 1) {
    EXPECT_EQ(result.exit_code, 128 + SIGTERM) << describe(result);
  }
  EXPECT_THAT(result.err, HasSubstr("leaving at once"));
  EXPECT_FALSE(place_.exists("out/REQUEUE"));
}

TEST_P(ProgramStop, TheEndOfTheSlurmJob_DoesTheSameBeforeIt) {
  ProgramCall call = place_.train_call(GetParam(), quietly({kEndless}));
  const auto end = std::chrono::system_clock::now() + std::chrono::seconds(6);
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(end.time_since_epoch());
  call.environment["SLURM_JOB_END_TIME"] = std::to_string(seconds.count());

  const ProgramResult result = run_program(call);

  expect_stopped(result, "by the end of the Slurm job");
  EXPECT_LT(std::chrono::system_clock::now(), end + std::chrono::seconds(GetParam() == 1 ? 0 : 2));
}

TEST_P(ProgramStop, WhenSlurmSignalsTooLate_TheFirstSaveSaysSoOnce) {
  ProgramCall call = place_.train_call(GetParam(), {});
  call.environment["SPILLWAY_SIGNAL_SECONDS"] = "0";

  const ProgramResult result = run_program(call);

  EXPECT_EQ(result.exit_code, 0) << describe(result);
  const std::string words = "but Slurm's signal comes 0 s before the end";
  const std::size_t first = result.err.find(words);
  ASSERT_NE(first, std::string::npos) << result.err;
  EXPECT_EQ(result.err.find(words, first + 1), std::string::npos) << result.err;
}

TEST_P(ProgramStop, ASignalBeforeTheFirstStep_DoesTheSame) {
  Program program(place_.train_call(GetParam(), quietly({kEndless})));

  send(program, SIGUSR1, "data/train: 30 pairs");

  expect_stopped(program.wait(), "by a signal");
}

TEST_P(ProgramStop, KilledAfterTheLastStep_IsEvaluatedAndExportedByTheNextRun) {
  ASSERT_EQ(place_.train(GetParam()).exit_code, 0);
  const std::string model = place_.read("out/model/model.safetensors");
  for (const char* late : {"out/model", "out/all_results.json", "out/generated_predictions.txt"})
    std::filesystem::remove_all(place_.path(late));

  const ProgramResult next = place_.train(GetParam());

  EXPECT_EQ(next.exit_code, 0) << describe(next);
  EXPECT_EQ(place_.read("out/model/model.safetensors"), model);
  EXPECT_TRUE(place_.exists("out/all_results.json"));
  EXPECT_TRUE(place_.exists("out/generated_predictions.txt"));
}

TEST_P(ProgramStop, ResultsOfFewerSteps_DoNotPassForThoseOfTheLast) {
  ASSERT_EQ(place_.train(GetParam()).exit_code, 0);
  place_.copy("out", "shorter");
  ASSERT_EQ(place_.train(GetParam(), {"train.max_steps=9"}).exit_code, 0);
  const std::string model = place_.read("out/model/model.safetensors");
  // As if the second run had been killed between its last checkpoint and its results.
  for (const char* result : {"model", "all_results.json", "FINISHED"}) {
    std::filesystem::remove_all(place_.path(std::string("out/") + result));
    place_.copy(std::string("shorter/") + result, std::string("out/") + result);
  }

  const ProgramResult next = place_.train(GetParam(), {"train.max_steps=9"});

  EXPECT_EQ(next.exit_code, 0) << describe(next);
  EXPECT_EQ(place_.read("out/model/model.safetensors"), model);
  EXPECT_NE(place_.read("out/FINISHED"), place_.read("shorter/FINISHED"));
}

TEST_P(ProgramStop, TimeLimit_DoesTheSameWithinTheLimit) {
  const auto start = std::chrono::steady_clock::now();

  const ProgramResult result =
      place_.train(GetParam(), quietly({kEndless, "train.time_limit=4s", "eval.eval_steps=50"}));

  const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
  expect_stopped(result, "by train.time_limit");
  // The launcher takes its time before and after the ranks.
  EXPECT_LT(passed.count(), GetParam() == 1 ? 4.0 : 6.0);
}

TEST_P(ProgramStop, ASignalWhenAnEvaluationIsDue_SavesFirst) {
  Program program(place_.train_call(GetParam(), quietly({kEndless, "eval.eval_steps=1"})));

  send(program, SIGUSR1, "data/train: 30 pairs");

  expect_stopped(program.wait(), "by a signal");
  EXPECT_THAT(place_.read("out/metrics.jsonl"), Not(HasSubstr("eval_loss")));
}

TEST_P(ProgramStop, KilledInTheFinalEvaluationAfterASignal_AsksToBeRequeued) {
  const std::vector<std::string> settings =
      quietly({"train.max_steps=1", "eval.num_beams=8", "eval.max_length=500", "eval.length_penalty=5"});
  {
    Program program(place_.train_call(GetParam(), settings));
    send(program, SIGUSR1, "data/train: 30 pairs");
    ASSERT_TRUE(wait_until([&] { return place_.exists("out/REQUEUE"); })) << program.err();
    const std::vector<pid_t> ranks = GetParam() == 1 ? std::vector<pid_t>{program.pid()} : program.children();
    for (const pid_t rank : ranks) ::kill(rank, SIGKILL);
    ASSERT_NE(program.wait().exit_code, 0) << "it was done before it could be killed";
  }
  EXPECT_TRUE(place_.exists("out/checkpoints/step-000000001/manifest.json"));
  EXPECT_TRUE(place_.exists("out/REQUEUE"));

  const ProgramResult next = place_.train(GetParam(), settings);

  EXPECT_EQ(next.exit_code, 0) << describe(next);
  EXPECT_TRUE(place_.exists("out/model"));
  EXPECT_FALSE(place_.exists("out/REQUEUE"));
}

TEST_P(ProgramStop, ARunThatFailsEarly_TakesBackTheWishOfTheOneBefore) {
  place_.write("out/REQUEUE", "stopped at step 3 of 6 by a signal\n");

  const ProgramResult failed = place_.train(GetParam(), {"data.train=nowhere"});

  EXPECT_EQ(failed.exit_code, 4) << describe(failed);
  EXPECT_FALSE(place_.exists("out/REQUEUE"));
}

TEST_P(ProgramStop, TheSameCommandGoesOn_AlsoWhenItSaysWhereToBegin) {
  const std::vector<std::string> settings = quietly({kEndless, "checkpoint.resume=none"});
  Program first(place_.train_call(GetParam(), settings));
  send(first, SIGUSR1);
  expect_stopped(first.wait(), "by a signal");

  Program next(place_.train_call(GetParam(), settings));
  send(next, SIGUSR1);

  const ProgramResult second = next.wait();
  EXPECT_THAT(second.err, AllOf(HasSubstr("was left by a stop of this run: going on from it, not from"),
                                HasSubstr("resumed from out/checkpoints/step-")));
  const ProgramResult another = place_.train(
      GetParam(), {"checkpoint.resume=out/checkpoints/" + lines_of(place_.read("out/checkpoints/LATEST")).at(0),
                   "train.max_steps=1"});
  EXPECT_THAT(another.err, Not(HasSubstr("was left by a stop"))) << "another command";
}

TEST_P(ProgramStop, KilledInTheMiddle_GoesOnFromTheNewestCheckpointToTheSameBits) {
  const std::vector<std::string> settings = {"train.max_steps=200", "checkpoint.save_steps=20",
                                             "train.logging_steps=50", "eval.predict_with_generate=false"};
  Workplace whole;
  ASSERT_EQ(whole.train(GetParam(), settings).exit_code, 0);
  {
    Program killed(place_.train_call(GetParam(), settings));
    ASSERT_TRUE(wait_until([&] { return place_.exists("out/checkpoints/LATEST"); })) << killed.err();
    const std::vector<pid_t> ranks = GetParam() == 1 ? std::vector<pid_t>{killed.pid()} : killed.children();
    for (const pid_t rank : ranks) ::kill(rank, SIGKILL);
    ASSERT_NE(killed.wait().exit_code, 0) << "it was done before it could be killed";
  }
  place_.write("out/checkpoints/step-000000200.tmp/rank-00000-of-00001.h5", "of a save that was killed");

  const ProgramResult next = place_.train(GetParam(), settings);

  EXPECT_EQ(next.exit_code, 0) << describe(next);
  EXPECT_THAT(next.err, HasSubstr("resumed from out/checkpoints/step-"));
  EXPECT_EQ(place_.read("out/model/model.safetensors"), whole.read("out/model/model.safetensors"));
  EXPECT_FALSE(place_.exists("out/checkpoints/step-000000200.tmp"));
}

TEST_P(ProgramStop, TheOffloadFoldersOfAKilledRun_AreRemovedByTheNext) {
  if (place_.in_memory()) GTEST_SKIP() << "the build folder is in memory";
  place_.write("nvme/note", "not of a run");
  const std::vector<std::string> settings = {"offload.placement=nvme", "offload.nvme_dirs=[\"nvme\"]"};
  const auto folders = [&] {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(place_.path("nvme")))
      if (entry.is_directory()) names.push_back(entry.path().filename());
    return names;
  };
  {
    auto endless = quietly(settings);
    endless.emplace_back(kEndless);
    Program killed(place_.train_call(GetParam(), endless));
    send(killed, SIGKILL);
    EXPECT_NE(killed.wait().exit_code, 0);
  }
  ASSERT_THAT(folders(), Not(IsEmpty()));

  const ProgramResult next = place_.train(GetParam(), settings);

  EXPECT_EQ(next.exit_code, 0) << describe(next);
  // Any rank may be the one that finds a folder; only rank 0 speaks.
  if (GetParam() == 1) {
    EXPECT_THAT(next.err, HasSubstr("removed nvme/spillway-"));
  }
  EXPECT_THAT(folders(), IsEmpty());
  EXPECT_TRUE(place_.exists("nvme/note"));
}

TEST(ProgramStopOfOneRank, ASignalToOneRank_StopsBoth) {
  Workplace place;
  Program program(place.train_call(2, quietly({kEndless})));
  ASSERT_TRUE(wait_until([&] { return program.err().find("\nstep ") != std::string::npos; })) << program.err();
  const std::vector<pid_t> ranks = program.children();
  ASSERT_EQ(ranks.size(), 2U);

  ::kill(ranks[1], SIGUSR1);

  const ProgramResult result = program.wait(std::chrono::seconds(20));
  EXPECT_NE(result.exit_code, 0) << describe(result);
  EXPECT_THAT(result.err, HasSubstr("by a signal: run the same command again"));
  EXPECT_TRUE(place.exists("out/REQUEUE")) << describe(result);
}

TEST(ProgramStopOfOneRank, ARankThatDies_EndsTheJobWithinSecondsAndAsksForNothing) {
  Workplace place;
  Program program(place.train_call(2, quietly({kEndless})));
  ASSERT_TRUE(wait_until([&] { return program.err().find("\nstep ") != std::string::npos; })) << program.err();
  const std::vector<pid_t> ranks = program.children();
  ASSERT_EQ(ranks.size(), 2U);

  ::kill(ranks[1], SIGKILL);

  const ProgramResult result = program.wait(std::chrono::seconds(10));
  EXPECT_NE(result.exit_code, 0) << describe(result);
  EXPECT_NE(result.exit_code, 75) << describe(result);
  EXPECT_FALSE(place.exists("out/REQUEUE"));
}

}  // namespace
}  // namespace spillway::test
