// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "train/host_state.hpp"
#include "train/snapshot_layout.hpp"
#include "train/spread_state.hpp"
#include "train/trainee.hpp"

namespace spillway::test {

/// What enters the numbers: runs are held only against runs with the same.
struct Numerics {
  train::Precision precision = train::Precision::fp32;
  train::StateFormat state_format = train::StateFormat::fp32;
  train::OptimizerName optimizer = train::OptimizerName::adamw;
  bool fp32_gradients = false;  // on the wire and at rest, whatever the weight is
  bool freeze_encoder = false;
  bool two_groups = false;  // of micro-batches of one sample
  bool one_batch = false;   // the whole global batch is one micro-batch: gradients are made where they rest
};
std::ostream& operator<<(std::ostream& out, const Numerics& numerics);
[[nodiscard]] std::vector<Numerics> all_numerics();

/// Makes a configuration one of such runs.
void set_numerics(train::RunOptions& options, const Numerics& numerics);

/// A way to run the same training: where state is and how it moves, which must not change a bit.
struct Placement {
  int stage = 3;
  train::TierChoice weight = train::TierChoice::device;
  train::TierChoice master = train::TierChoice::device;  // a kind of its own in bf16 only
  train::TierChoice exp_avg = train::TierChoice::device;
  train::TierChoice exp_avg_sq = train::TierChoice::device;
  train::StoreChoice store = train::StoreChoice::automatic;
  bool recompute = false;  // activation checkpointing
  bool host_residuals =
      false;  // likewise, and what blocks keep passes through places on the device, also where that is host memory
  Spread spread = Spread::none;
  int nodes = 1;                  // above 1: shards within so many nodes, copies across
  std::optional<HostState> host;  // beside a GPU; whatever tiers are asked for
  train::OptimizerPlace optimizer_on = train::OptimizerPlace::automatic;
};
std::ostream& operator<<(std::ostream& out, const Placement& placement);

/// Whether a run has kinds that can be spread so.
[[nodiscard]] bool can_spread(const Numerics& numerics, Spread spread);

/// Every placement that a run at some rank count is held against stage 0 with all on the device.
[[nodiscard]] std::vector<Placement> placements(int ranks);

/// Those with a GPU alone: state outside its memory updated by the CPU, or by both.
[[nodiscard]] std::vector<Placement> placements_beside_gpu();
/// What a device that plays a GPU computes with, and the CPU beside it.
[[nodiscard]] train::EngineSwitches kernels_beside_gpu();

/// Weight, master and both moments each on device, host and nvme (files in memory, the fastest), the stages in turn.
[[nodiscard]] std::vector<Placement> every_combination_of_tiers();

/// What happens besides the steps.
struct Course {
  train::Saving saving = train::Saving::blocking;  // what the plan has memory for
  /// Instead of kSteps steps one after the other; must take as many.
  std::function<void(Trainee&)> run = {};
};
/// Of a run.
inline constexpr int kPlacedSteps = 10;

/// Trains kPlacedSteps steps with a placement on this rank, with dropout and with clipping in every step, and expects that the tiers asked
/// for were used. \return the hashes of all state. With `gpu` it trains there instead of on the host.
[[nodiscard]] StateHashes train_placed(const std::string& folder, const Numerics& numerics, const Placement& placement,
                                       comm::Communicator& communicator, Device* gpu = nullptr,
                                       train::EngineSwitches switches = {}, const Course& course = {});

}  // namespace spillway::test
