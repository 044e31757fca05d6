// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <map>
#include <string>
#include <vector>

#include <sys/types.h>

namespace spillway::test {

/// A program to run.
struct ProgramCall {
  std::vector<std::string> command;                     // looked up in PATH
  std::string directory = ".";                          // where it runs
  std::map<std::string, std::string> environment = {};  // over this process's own
  std::string input = {};                               // its standard input
};

/// How a program ended.
struct ProgramResult {
  int exit_code = -1;  // as a shell says it: 128 + the signal's number if a signal ended it
  std::string out;     // standard output
  std::string err;     // standard error
};

/// A running program in a process group of its own. Whatever of it and its descendants still runs at the end of this object's life
/// is killed.
class Program {
 public:
  explicit Program(const ProgramCall& call);
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program();

  [[nodiscard]] pid_t pid() const noexcept { return pid_; }
  /// The processes that it started and that run now: under mpirun, the ranks.
  [[nodiscard]] std::vector<pid_t> children() const;
  /// What it has written to standard error until now.
  [[nodiscard]] std::string err() const;
  /// Waits for its end. One that takes longer is killed with its descendants, and the test fails with its messages.
  [[nodiscard]] ProgramResult wait(std::chrono::seconds timeout = std::chrono::seconds(60));

 private:
  void kill_all() const;

  pid_t pid_ = -1;
  bool ended_ = false;
  int out_, err_;  // descriptors of files in memory
};

/// Runs a program to its end.
[[nodiscard]] ProgramResult run_program(const ProgramCall& call,
                                        std::chrono::seconds timeout = std::chrono::seconds(60));

/// `command` as `ranks` ranks on this machine, whoever runs the test; one rank needs no launcher.
[[nodiscard]] ProgramCall on_ranks(int ranks, std::vector<std::string> command);

}  // namespace spillway::test
