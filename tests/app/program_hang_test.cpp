// SPDX-License-Identifier: Apache-2.0
// Runs in which a rank dies, stops or is another than the rest: they end with a reason, within train.collective_timeout, and
// what was saved stays.
#include <csignal>
#include <fstream>
#include <sstream>
#include <string>

#include <gmock/gmock.h>

#include "app/workplace.hpp"

namespace spillway::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

using Settings = std::vector<std::string>;

const Settings kEndless = {"train.max_steps=100000000", "train.collective_timeout=3s", "train.logging_steps=20",
                           "checkpoint.save_steps=20"};

/// The process of a rank; 0 if it has none.
pid_t process_of(const Program& program, int rank) {
  for (const pid_t pid : program.children()) {
    std::ostringstream environment;
    environment << std::ifstream("/proc/" + std::to_string(pid) + "/environ").rdbuf();
    const std::string variable = std::string(1, '\0') + "OMPI_COMM_WORLD_RANK=" + std::to_string(rank) + '\0';
    if (environment.str().find(variable) != std::string::npos) return pid;
  }
  return 0;
}

class ProgramHang : public testing::Test {
 protected:
  /// Sends a rank a signal once the program has said something.
  void send(const Program& program, int rank, int signal, const std::string& after) const {
    ASSERT_TRUE(wait_until([&] { return program.err().find(after) != std::string::npos; })) << program.err();
    const pid_t process = process_of(program, rank);
    ASSERT_GT(process, 0);
    ::kill(process, signal);
  }
  /// It failed, nobody is asked to start it again, and its newest checkpoint is whole.
  void expect_failed(const ProgramResult& result) const {
    EXPECT_NE(result.exit_code, 0) << describe(result);
    expect_left(result);
  }
  void expect_left(const ProgramResult& result) const {
    EXPECT_NE(result.exit_code, 75) << describe(result);
    EXPECT_FALSE(place_.exists("out/REQUEUE"));
    std::string step = place_.read("out/checkpoints/LATEST");
    step.erase(step.find_last_not_of(" \n") + 1);
    const ProgramResult verified = place_.run(1, {"checkpoint", "verify", "out/checkpoints/" + step});
    EXPECT_EQ(verified.exit_code, 0) << describe(verified);
  }

  Workplace place_;
};

TEST_F(ProgramHang, WhenARankIsStopped_TheJobEndsAndNamesIt) {
  Program program(place_.train_call(3, kEndless));

  send(program, 2, SIGSTOP, "\nsaved ");

  const ProgramResult result = program.wait(std::chrono::seconds(30));
  expect_failed(result);
  EXPECT_THAT(result.err, AllOf(HasSubstr("rank 0 on "), HasSubstr(", step "), HasSubstr("has not ended for 3."),
                                HasSubstr("rank 2 on "), HasSubstr("gives no answer: it has died or is stopped")));
}

TEST_F(ProgramHang, WhenARankIsKilled_TheJobEnds) {
  Program program(place_.train_call(2, kEndless));

  send(program, 1, SIGKILL, "\nsaved ");

  expect_failed(program.wait(std::chrono::seconds(30)));
}

TEST_F(ProgramHang, WhereTheLauncherLeavesTheSurvivors_TheyEndAndSayWhy) {
  ProgramCall call = place_.train_call(3, kEndless);
  call.command.insert(call.command.begin() + 1, "--enable-recovery");
  Program program(call);

  send(program, 2, SIGKILL, "\nsaved ");

  const ProgramResult result = program.wait(std::chrono::seconds(30));  // its code is of no use then
  expect_left(result);
  EXPECT_THAT(result.err, AllOf(HasSubstr("rank 0 on "), HasSubstr("gives no answer: it has died or is stopped")));
}

TEST_F(ProgramHang, WhenRank0IsStopped_AnotherSaysSo) {
  Program program(place_.train_call(2, kEndless));

  send(program, 0, SIGSTOP, "\nsaved ");

  const ProgramResult result = program.wait(std::chrono::seconds(30));
  expect_failed(result);
  EXPECT_THAT(result.err, AllOf(HasSubstr("[rank 1] rank 1 on "), HasSubstr("rank 0 on ")));
}

TEST_F(ProgramHang, InAnEvaluation_TheJobEndsToo) {
  Settings settings = kEndless;
  settings.insert(settings.end(), {"eval.eval_steps=21", "eval.num_beams=16", "eval.max_length=2000",
                                   "eval.length_penalty=5", "checkpoint.async=false"});
  Program program(place_.train_call(2, settings));

  // An evaluation that takes longer than the test follows.
  ASSERT_TRUE(wait_until([&] { return program.err().find("\nsaved ") != std::string::npos; })) << program.err();
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  send(program, 1, SIGSTOP, "\nsaved ");

  const ProgramResult result = program.wait(std::chrono::seconds(30));
  expect_failed(result);
  EXPECT_THAT(result.err, AllOf(HasSubstr(", evaluation: "), HasSubstr("rank 1 on ")));
}

/// As Slurm suspends jobs.
TEST_F(ProgramHang, AJobThatIsSuspendedAsAWhole_GoesOn) {
  Program program(place_.train_call(2, kEndless));
  send(program, 0, SIGSTOP, "\nsaved ");
  ::kill(process_of(program, 1), SIGSTOP);
  std::this_thread::sleep_for(std::chrono::seconds(5));

  for (const int rank : {0, 1}) ::kill(process_of(program, rank), SIGCONT);
  for (const int rank : {0, 1}) ::kill(process_of(program, rank), SIGUSR1);

  const ProgramResult result = program.wait();
  EXPECT_THAT(result.err, AllOf(HasSubstr("by a signal"), Not(HasSubstr("has not ended"))));
  EXPECT_TRUE(place_.exists("out/REQUEUE"));
}

TEST_F(ProgramHang, RanksThatAreNotStartedAlike_AreRefused) {
  ProgramCall call = place_.train_call(2, {});
  std::vector<std::string>& words = call.command;  // mpiexec -n 2 spillway train run.toml ...
  words[2] = "1";
  const std::vector<std::string> other = {":", words[1], "1", words[3], "evaluate", words[5]};
  words.insert(words.end(), other.begin(), other.end());

  const ProgramResult result = run_program(call);

  EXPECT_EQ(result.exit_code, 2) << describe(result);
  EXPECT_THAT(result.err, HasSubstr("the ranks were not started alike: rank 0 has \"train\", rank 1 has \"evaluate\""));
}

TEST_F(ProgramHang, ConsistencyChecks_ChangeNothing) {
  for (const char* stage : {"zero.stage=0", "zero.stage=2", "zero.stage=3"}) {
    const ProgramResult plain = place_.train(2, {stage, "train.output_dir=plain", "checkpoint.resume=none"});
    ASSERT_EQ(plain.exit_code, 0) << describe(plain);
    const ProgramResult checked = place_.train(
        2, {stage, "train.output_dir=checked", "checkpoint.resume=none", "train.consistency_check_steps=2"});
    ASSERT_EQ(checked.exit_code, 0) << describe(checked);

    EXPECT_EQ(place_.read("checked/model/model.safetensors"), place_.read("plain/model/model.safetensors")) << stage;
  }
}

}  // namespace
}  // namespace spillway::test
