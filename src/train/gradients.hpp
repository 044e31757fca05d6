// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "comm/communicator.hpp"
#include "core/device.hpp"
#include "kernels/model_ops.hpp"
#include "plan/step_program.hpp"
#include "train/host_gradients.hpp"
#include "train/state_layout.hpp"
#include "train/step_clock.hpp"
#include "train/zero.hpp"

namespace spillway::train {

/// What gradients are made of, and what that takes. Elements and bytes are those of one rank.
struct GradientLayout {
  DType reduce = DType::f32;  // on the wire
  DType grad = DType::f32;    // at rest
  const Zero* zero = nullptr;
  std::vector<plan::UnitRole> units;
  int micro_batches = 1;  // of one rank in one step

  [[nodiscard]] bool trainable(int unit) const { return units[static_cast<std::size_t>(unit)].trainable; }
  [[nodiscard]] bool persistent(int unit) const { return units[static_cast<std::size_t>(unit)].persistent; }
  /// The unit's tensors leave no padding between or behind them.
  [[nodiscard]] bool filled(int unit) const;
  /// The ops that make the unit's gradient write it where it lies at rest, each element once in a step and rounded once: it takes one
  /// rank, one micro-batch, a unit that is written so and has no padding, and the same dtype on the wire and at rest.
  /// What the ledger counts and what a step does both follow from this.
  [[nodiscard]] bool in_place(int unit) const;
  /// Of the largest unit that is neither frozen nor persistent nor in place.
  [[nodiscard]] std::int64_t largest_unit() const;
  /// A buffer for each persistent unit and plan::kGradientSlots for the others: fp32, and as many in `reduce` if that is another.
  [[nodiscard]] std::int64_t buffer_elements() const;
  [[nodiscard]] std::size_t buffer_bytes() const;
  [[nodiscard]] std::int64_t grad_elements() const;
  [[nodiscard]] std::size_t grad_bytes() const { return static_cast<std::size_t>(grad_elements()) * size_of(grad); }
  /// fp32 pieces that a sum over ranks goes to before it is added or rounded: one for each buffer.
  [[nodiscard]] std::int64_t partial_elements(bool several_groups) const;
  /// fp32 pieces that add up over groups where the gradient at rest is narrower.
  [[nodiscard]] std::int64_t sum_elements(bool several_groups) const;
};

/// The gradients of one step. The backward pass adds a unit's whole fp32 gradient into a buffer of this rank. Each rank rounds it once
/// to the wire's dtype; a reduction in the background sums the ranks' pieces in fp32, over several groups of micro-batches too, and the
/// sum is rounded once to the dtype at rest. Ranks with copies of the same state then exchange their pieces. Where there is nothing to
/// sum (GradientLayout::in_place) the place at rest is the buffer. A gradient that rests in host memory is made in device memory, where
/// its norm is taken before it leaves: only with one group, whose reduction is the last.
class Gradients {
 public:
  /// \param world   all ranks; \param copies  those that have the same place in their groups
  /// \param buffers buffer_bytes(); \param grad  grad_bytes(), less what rests in host memory
  /// \param sums    partial_elements() + sum_elements() in fp32; \param host  of those that rest there; null: none does
  /// \param clock   told how long reductions are waited for, and how long sums and zeros take
  Gradients(GradientLayout layout, int groups, comm::Communicator& world, comm::Communicator& copies,
            kernels::ModelOps& ops, Queue& queue, StepClock& clock, TensorView buffers, TensorView grad,
            TensorView sums, HostGradients* host = nullptr);
  /// Waits for the reductions under way, which use memory of others: a step may have ended in an exception.
  ~Gradients();
  Gradients(const Gradients&) = delete;
  Gradients& operator=(const Gradients&) = delete;

  /// Forgets the last step's sums.
  void begin_step();
  /// Gives the unit a buffer; blocks until the buffer's last reduction is over.
  void begin(int unit);
  /// The unit's buffer between begin and reduce: fp32 and zero at first, unless overwrites() has said otherwise. That of a unit in place
  /// has the dtype at rest.
  [[nodiscard]] TensorView buffer(int unit);
  /// Whether the buffer still holds anything: true at most once after begin, and only for units whose tensors fill them, so that who
  /// overwrites the tensors overwrites all of it.
  [[nodiscard]] bool overwrites(int unit);
  /// Starts to sum the unit's buffer over ranks. From the second group on it is added to the sum so far.
  void reduce(int unit);
  /// Blocks until the unit's reduction is over (measurements).
  void wait_for_reduction(int unit) {
    if (!rests_on_host(unit)) slot_of(unit).reduced.wait();
  }
  /// Whether the unit's gradient rests in host memory beside a GPU: after reduce() it is summed, and piece() is in device memory until leave().
  [[nodiscard]] bool rests_on_host(int unit) const { return host_ != nullptr && host_->holds(unit); }
  /// Starts to take such a gradient to where it rests.
  void leave(int unit);
  /// Blocks until all reductions are over.
  void finish();
  [[nodiscard]] bool trainable(int unit) const { return layout_.trainable(unit); }
  /// When what owned() gives of a unit that rests on the host is there; elsewhere finish() is enough.
  [[nodiscard]] Event there(int unit) const { return rests_on_host(unit) ? host_->there(unit) : Event(); }
  /// owned(), after finish(). Asked for while the next step runs it may be that one's.
  [[nodiscard]] GradientAtRest at_rest(int unit) const { return {.values = owned(unit), .there = there(unit)}; }
  /// The summed gradient of what this rank owns of a trainable unit, after finish().
  [[nodiscard]] TensorView owned(int unit) const { return states_.at(static_cast<std::size_t>(unit)).owned; }
  /// This rank's piece of it, the part that its norm counts.
  [[nodiscard]] TensorView piece(int unit) const;

 private:
  struct Slot {
    TensorView memory;   // whole unit: fp32, or the place at rest
    TensorView wire;     // the same in the wire's dtype, where that is another
    TensorView partial;  // a piece in fp32, to be added or rounded
    int unit = -1;
    bool stale = false;  // of another unit or step: not zero yet
    Event reduced;
  };
  /// Of one unit.
  struct State {
    TensorView owned;   // at rest
    TensorView sum;     // its piece in fp32 while groups add up, where that is not the piece at rest
    int own_slot = -1;  // -1: it has one of those that units share
    bool filled = false;
    int reductions = 0;  // in this step
    Event complete;
  };
  [[nodiscard]] Slot& slot_of(int unit);
  [[nodiscard]] bool several(int unit) const { return groups_ > 1 && !layout_.persistent(unit); }
  [[nodiscard]] TensorView target_of(const Slot& slot) const;
  void clear(Slot& slot);
  void reduce_alone(Slot& slot, ConstTensorView full);
  void complete(Slot& slot);
  void share(int unit, const Event& after);

  GradientLayout layout_;
  int groups_;
  comm::Communicator& world_;
  comm::Communicator& copies_;
  kernels::ModelOps& ops_;
  Queue& queue_;
  StepClock& clock_;
  HostGradients* host_;
  std::vector<Slot> slots_;  // those of one unit first
  std::size_t shared_ = 0;   // the first slot that any unit may have
  std::size_t next_ = 0;
  std::vector<State> states_;
};

}  // namespace spillway::train
