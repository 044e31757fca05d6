// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "core/device.hpp"
#include "core/tensor_view.hpp"

namespace spillway::train {

/// Gradients that rest in host memory beside a GPU. A unit's is made in one of a few slots in device memory, from which a queue of its own
/// takes it to its place; a slot is used again only when that is over. One thread at a time; nothing blocks.
class HostGradients {
 public:
  /// \param slots  device memory, for plan::kGradientSlots of the largest unit's gradient; outlives this object
  /// \param places host memory of each unit; empty: its gradient rests in device memory
  HostGradients(Device& device, TensorView slots, std::vector<TensorView> places, bool wait_at_once);
  /// Waits for what is under way.
  ~HostGradients();
  HostGradients(const HostGradients&) = delete;
  HostGradients& operator=(const HostGradients&) = delete;

  [[nodiscard]] bool holds(int unit) const { return static_cast<bool>(at_rest(unit)); }
  /// The next slot, for a unit's gradient: what `queue` is given from now on finds it free. No other is opened before this one leaves.
  [[nodiscard]] TensorView open(Queue& queue, int unit);
  /// Starts to take the gradient to host memory, once `queue` is through with what it has been given so far.
  void leave(Queue& queue, int unit);
  [[nodiscard]] const TensorView& at_rest(int unit) const { return places_.at(static_cast<std::size_t>(unit)); }
  /// When the gradient that left last is in host memory.
  [[nodiscard]] const Event& there(int unit) const { return there_.at(static_cast<std::size_t>(unit)); }

 private:
  Device& device_;
  TensorView slots_;
  std::vector<TensorView> places_;
  bool wait_at_once_;
  std::unique_ptr<Queue> down_;
  std::vector<Event> free_;   // of each slot
  std::vector<Event> there_;  // of each unit
  std::size_t next_ = 0;      // slot
  int open_ = -1;             // unit
};

}  // namespace spillway::train
