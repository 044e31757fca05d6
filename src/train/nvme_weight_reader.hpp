// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <initializer_list>
#include <memory>
#include <vector>

#include "core/device.hpp"
#include "train/shard_state.hpp"
#include "train/weight_reader.hpp"

namespace spillway::train {

/// Brings a rank's weights from nvme, unit by unit in the order of the calls, on a thread of its own: extents are read into aligned
/// memory one ahead, and copied to where they belong.
class NvmeWeightReader : public WeightReader {
 public:
  /// Extents that are on their way at once.
  static constexpr int kBuffers = 2;

  /// \param memory  kBuffers times the largest extent's stored weight, on the store's alignment; both outlive this object
  NvmeWeightReader(ShardState& state, TensorView memory, Device& device);

  [[nodiscard]] Event read(std::initializer_list<Event> after, int unit, TensorView to) override;
  [[nodiscard]] bool on_thread(int) const override { return true; }

 private:
  void read_now(int unit, TensorView to);

  ShardState& state_;
  std::span<std::byte> memory_;
  Device& device_;
  std::unique_ptr<Queue> copies_;  // of the reader's thread
  std::unique_ptr<Queue> queue_;
};

}  // namespace spillway::train
