// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <initializer_list>
#include <memory>

#include "core/device.hpp"
#include "train/shard_state.hpp"
#include "train/weight_reader.hpp"

namespace spillway::train {

/// Brings weights from host memory to a GPU, unit by unit in the order of the calls, on a queue of its own: one copy, once the last
/// update has come back over the link. A unit with state on nvme is updated by a thread, which must be waited for on another.
class HostWeightReader : public WeightReader {
 public:
  /// Both outlive this object.
  HostWeightReader(ShardState& state, Device& device);

  [[nodiscard]] Event read(std::initializer_list<Event> after, int unit, TensorView to) override;
  [[nodiscard]] bool on_thread(int unit) const override;

 private:
  ShardState& state_;
  Device& device_;
  std::unique_ptr<Queue> copies_;  // whose events the device's queues wait for without blocking anybody
  std::unique_ptr<Queue> thread_;
};

}  // namespace spillway::train
