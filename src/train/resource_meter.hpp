// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "core/device_meters.hpp"
#include "offload/block_store.hpp"
#include "plan/simulation.hpp"
#include "train/step_clock.hpp"

namespace spillway::train {

class Engine;

/// Of one step, as plan::ResourceUse; what nobody measures is not there.
struct MeasuredUse {
  std::optional<double> busy_seconds;
  std::optional<double> bytes;
};

/// What a step of this rank kept busy, as it was measured: to be held against the plan's prediction, resource by resource.
struct MeasuredResources {
  std::array<MeasuredUse, plan::kResources> uses{};

  [[nodiscard]] MeasuredUse& use(plan::Resource resource) { return uses[static_cast<std::size_t>(resource)]; }
  [[nodiscard]] const MeasuredUse& use(plan::Resource resource) const {
    return uses[static_cast<std::size_t>(resource)];
  }
};

/// Reads the counters of an engine's device, store and optimizer. They count what was started; what the last step of one reading has
/// started and not finished belongs to it. What evaluations and checkpoints move is left out, a snapshot beside training too.
class ResourceMeter {
 public:
  /// Keeps the engine.
  explicit ResourceMeter(Engine& engine) : engine_(engine) {}

  /// Between them nothing counts: not weights that are loaded, evaluations or checkpoints that training waits for. No update may be under way. It begins paused.
  void pause();
  void resume();
  /// All bytes of the store since the last reading.
  [[nodiscard]] offload::StoreCounters nvme();
  /// Of the steps since the last reading. \param clock  theirs; \param steps  how many, at least one
  [[nodiscard]] MeasuredResources take(const StepClock& clock, std::int64_t steps);

 private:
  /// Counted so far.
  struct Counts {
    LinkBytes link;
    offload::StoreCounters store;
    double cpu_update = 0.0;
  };
  [[nodiscard]] Counts read() const;
  void add(const Counts& now);

  Engine& engine_;
  Counts since_;    // when counting began anew
  Counts counted_;  // before that, since the last reading
  bool paused_ = true;
};

}  // namespace spillway::train
