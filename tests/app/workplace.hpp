// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "support/run_program.hpp"
#include "support/scratch_directory.hpp"

namespace spillway::test {

/// A folder as somebody has it who is about to train: model/ (a configuration of 33 thousand parameters, bytes as tokens, no
/// weights), pretrained/ (one of the reference models, which has some), data/{train,val,test}.{source,target}, and run.toml,
/// which trains model/ from scratch for 6 steps into out/. The program runs in it, so its paths are relative.
class Workplace {
 public:
  Workplace();

  /// Runs `spillway ARGUMENTS` to its end.
  [[nodiscard]] ProgramResult run(int ranks, const std::vector<std::string>& arguments) const;
  /// `spillway train run.toml`, each setting as a --set of its own.
  [[nodiscard]] ProgramResult train(int ranks, const std::vector<std::string>& settings = {}) const;
  /// How to run it, for tests that change something about that.
  [[nodiscard]] ProgramCall call(int ranks, const std::vector<std::string>& arguments) const;
  [[nodiscard]] ProgramCall train_call(int ranks, const std::vector<std::string>& settings) const;

  [[nodiscard]] std::string path(const std::string& name) const { return directory_.file(name); }
  [[nodiscard]] bool exists(const std::string& name) const;
  [[nodiscard]] std::string read(const std::string& name) const;
  /// Makes folders on the way.
  void write(const std::string& name, const std::string& text) const;
  /// Copies a file or a folder with all that is in it.
  void copy(const std::string& from, const std::string& to) const;
  /// Replaces the one occurrence of `from` in a file.
  void replace(const std::string& name, const std::string& from, const std::string& to) const;
  /// Whether the folder is in memory, where nothing can be offloaded to.
  [[nodiscard]] bool in_memory() const { return directory_.in_memory(); }

 private:
  ScratchDirectory directory_;
};

/// Exit code and both streams, for the message of a failed expectation.
[[nodiscard]] std::string describe(const ProgramResult& result);

/// Lines without their ends.
[[nodiscard]] std::vector<std::string> lines_of(const std::string& text);

/// Calls `met` every few milliseconds until it is true. \return false if that takes longer than 20 s
template <typename Condition>
[[nodiscard]] bool wait_until(Condition met) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!met()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

}  // namespace spillway::test
