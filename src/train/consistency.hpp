// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "comm/communicator.hpp"
#include "train/agreement.hpp"
#include "train/engine.hpp"
#include "train/run_state.hpp"

namespace spillway::train {

/// Ranks have come to differ in what is the same on all. What was saved since they last agreed is not to be trusted.
class Inconsistency : public AgreedFailure {
 public:
  explicit Inconsistency(const std::string& message) : AgreedFailure(message, ExitCode::failure) {}
};

/// What one rank has, by name: the same names on every rank.
using Holdings = std::map<std::string, std::string>;

/// A line for each holding in which ranks differ: "\n  weights of encoder.3: rank 2 has X, the others Y". Those of which there
/// are fewer are named; of as many, those without the lowest rank. Empty if none differ.
[[nodiscard]] std::string deviations(const std::vector<Holdings>& all);

/// The comparison that train.consistency_check_steps asks for: every rank gathers every unit's weights, as for an evaluation, and
/// ranks compare a hash of each, of Adafactor's means, and where in the run they are. At stages 0 to 2, and between groups
/// of stage 3, the weights are copies that each rank or group has updated; within a group of stage 3 they show that all received the same.
class ConsistencyCheck {
 public:
  /// Of pinned memory that it takes beside a GPU.
  static constexpr std::size_t kBufferBytes = std::size_t{4} << 20;

  /// Keeps the references. \param step  at which the run begins
  ConsistencyCheck(Engine& engine, comm::Communicator& communicator, std::int64_t step);

  /// After a step. Blocks until its update is over. Collective. \throws Inconsistency on every rank
  void run(const RunState& state);

 private:
  [[nodiscard]] Holdings holdings(const RunState& state);
  [[nodiscard]] std::uint64_t hash_of_weights(int unit);

  Engine& engine_;
  comm::Communicator& communicator_;
  std::int64_t agreed_step_;
  std::unique_ptr<Queue> queue_;  // with the buffer, for weights in a GPU's memory
  Buffer buffer_;
};

}  // namespace spillway::train
