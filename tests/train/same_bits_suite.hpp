// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ostream>
#include <string>
#include <vector>

#include "train/trainee.hpp"

namespace spillway::test {

/// A way to run the same training: where state is and how it moves, which must not change a bit.
struct Placement {
  int stage = 3;
  train::TierChoice exp_avg = train::TierChoice::device;
  train::TierChoice exp_avg_sq = train::TierChoice::device;
  train::StoreChoice store = train::StoreChoice::automatic;
  bool recompute = false;  // activation checkpointing
};
std::ostream& operator<<(std::ostream& out, const Placement& placement);

/// Every placement that a run at some rank count is held against stage 0 with all on the device.
[[nodiscard]] std::vector<Placement> placements();

/// Trains kSteps steps with a placement on this rank, with dropout and with clipping in every step, and expects that the tiers asked
/// for were used. \return the hashes of all state
[[nodiscard]] StateHashes train_placed(const std::string& folder, const Placement& placement,
                                       comm::Communicator& communicator);

}  // namespace spillway::test
