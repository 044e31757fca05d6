// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "core/device.hpp"
#include "core/tensor_view.hpp"

namespace spillway::train {

/// Residuals of stages that run again in the backward pass, in host memory from the one pass to the other. A few places on the device
/// are theirs in turn: what a stage leaves for the next one is copied away by a queue of its own as soon as it is written, and
/// another queue brings it back for the backward pass as soon as a place is free, so that both run under the passes of other stages;
/// what is written last just stays there.
/// Each micro-batch of a group is told apart by its slot; those without samples are left out of all calls. Stages run forward in
/// ascending order, slots ascending in each, and backward in descending order. One thread at a time. Nothing blocks.
class ResidualRing {
 public:
  /// \param stage_bytes  of each stage of one micro-batch in host memory; 0: they stay on the device
  /// \param places       device memory, plan::residual_places() of the largest of them; outlives the ring, as does
  /// \param host         group size times their sum, of Device::allocate
  /// \param wait_at_once test-only: nothing overlaps
  ResidualRing(Device& device, const std::vector<std::size_t>& stage_bytes, int group_size, TensorView places,
               TensorView host, bool wait_at_once);
  /// Waits for what is under way.
  ~ResidualRing();
  ResidualRing(const ResidualRing&) = delete;
  ResidualRing& operator=(const ResidualRing&) = delete;

  /// Whether a stage's residuals leave the device.
  [[nodiscard]] bool passes(int stage) const;
  /// Where a micro-batch's residuals of such a stage are while it runs.
  [[nodiscard]] std::byte* memory(int stage, int slot) const { return place(items_[index(stage, slot)]); }

  /// Makes room for what the stage's forward pass, which `queue` is given next, leaves for the stage after it.
  void before_forward(Queue& queue, int stage, int slot);
  /// Starts to copy that away, if the stage after it passes. \param bytes  of it
  void after_forward(Queue& queue, int stage, int slot, std::size_t bytes);
  /// What `queue` is given from now on finds the stage's residuals in memory().
  void before_backward(Queue& queue, int stage, int slot);
  /// Starts to bring the next ones to their place.
  void after_backward(Queue& queue, int stage, int slot);
  /// Brings a stage's residuals of the last group that ran, until the next call: for who looks at them after the backward pass.
  void bring(Queue& queue, int stage, int slot);

 private:
  struct Item {
    std::byte* on_host = nullptr;
    std::size_t bytes = 0;
    std::size_t place = 0;
    Event saved, back;
  };
  [[nodiscard]] std::size_t index(int stage, int slot) const;
  [[nodiscard]] Item& item(int stage, int slot) { return items_[index(stage, slot)]; }
  [[nodiscard]] std::byte* place(const Item& item) const { return places_.data() + item.place * place_bytes_; }
  void begin_backward();
  void fetch(Item& item);

  Device& device_;
  TensorView places_;
  std::size_t place_bytes_ = 0;
  bool wait_at_once_;
  std::unique_ptr<Queue> down_, up_;  // to host memory, from it
  std::vector<int> rank_of_stage_;    // among those that pass, or -1
  int last_stage_ = -1;               // that passes
  std::size_t slots_;
  std::vector<Item> items_;            // [rank of stage][slot]
  std::vector<Event> free_;            // of each place: what the forward pass left there is in host memory
  std::vector<std::size_t> written_;   // items of the group, in order
  std::vector<std::size_t> to_fetch_;  // of these, the next at the end
  bool backward_ = false;
};

}  // namespace spillway::train
