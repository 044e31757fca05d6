// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "comm/communicator.hpp"
#include "core/device.hpp"
#include "kernels/model_ops.hpp"
#include "train/step_clock.hpp"
#include "train/zero.hpp"

namespace spillway::train {

/// The gradients of one step. The backward pass adds a unit's whole fp32 gradient into a buffer of this rank; a reduction in the
/// background sums it over ranks into the owner's shard, which lives until the update. Stage 0 gathers the summed shards again.
class Gradients {
 public:
  /// \param buffers  fp32 memory of the persistent unit and plan::kGradientSlots times the largest other unit
  /// \param shards   fp32 memory of zero.owned_elements(), and with several groups plan::kGradientSlots times the largest owned unit
  /// \param clock    told how long reductions are waited for, and how long sums and zeros take
  Gradients(const Zero& zero, comm::Communicator& communicator, kernels::ModelOps& ops, Queue& queue, StepClock& clock,
            TensorView buffers, TensorView shards, bool several_groups);
  /// Waits for the reductions under way, which use memory of others: a step may have ended in an exception.
  ~Gradients();
  Gradients(const Gradients&) = delete;
  Gradients& operator=(const Gradients&) = delete;

  /// Forgets the last step's sums.
  void begin_step();
  /// Gives the unit a zeroed buffer; blocks until the buffer's last reduction is over.
  void begin(int unit);
  /// The unit's buffer between begin and reduce.
  [[nodiscard]] TensorView buffer(int unit);
  /// Starts to sum the unit's buffer over ranks. From the second group on it is added to the sum so far.
  void reduce(int unit);
  /// Blocks until the unit's reduction is over (measurements).
  void wait_for_reduction(int unit) { slot_of(unit).reduced.wait(); }
  /// Blocks until all reductions are over.
  void finish();
  /// The summed gradient of what this rank owns of a unit, after finish().
  [[nodiscard]] TensorView owned(int unit) const { return owned_.at(static_cast<std::size_t>(unit)); }
  /// This rank's shard of it, the part that its norm counts.
  [[nodiscard]] TensorView shard(int unit) const;

 private:
  struct Slot {
    TensorView memory;   // whole unit
    TensorView partial;  // owned part of one group, to be added
    int unit = -1;
    bool adding = false;
    Event reduced;
  };
  [[nodiscard]] Slot& slot_of(int unit);
  void complete(Slot& slot);

  Zero zero_;
  comm::Communicator& communicator_;
  kernels::ModelOps& ops_;
  Queue& queue_;
  StepClock& clock_;
  std::vector<Slot> slots_;  // slot 0 is the persistent unit's
  std::vector<TensorView> owned_;
  std::vector<bool> summed_;
  std::size_t next_ = 0;
};

}  // namespace spillway::train
