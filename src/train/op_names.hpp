// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "model/stages.hpp"
#include "model/t5_layout.hpp"
#include "plan/step_program.hpp"

namespace spillway::train {

/// What a step's ops and updates are called in traces and profilers: "forward encoder.3", "reduce head", "norm". Made once, because a
/// name is wanted at every op.
class OpNames {
 public:
  OpNames(const plan::StepProgram& program, const model::T5Layout& layout, const std::vector<model::Stage>& stages);

  /// Of the program's op of that index.
  [[nodiscard]] const std::string& op(std::size_t index) const { return ops_.at(index); }
  /// Of a unit's update, where it runs.
  [[nodiscard]] const std::string& update(int unit) const { return updates_.at(static_cast<std::size_t>(unit)); }

 private:
  std::vector<std::string> ops_, updates_;
};

}  // namespace spillway::train
