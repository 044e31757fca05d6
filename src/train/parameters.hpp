// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "comm/communicator.hpp"
#include "core/device.hpp"
#include "model/ports.hpp"
#include "train/gradients.hpp"
#include "train/zero.hpp"

namespace spillway::train {

/// Every unit's weights where the ZeRO stage has them: whole at stage 0; at stage 3 a shard, gathered into one of a few slots when the
/// step program says so. The persistent unit has a place of its own. What slot a unit gets follows from the order of the calls alone,
/// so every rank gathers the same units.
class Parameters : public model::ParameterSource {
 public:
  /// \param owned     fp32 memory of zero.owned_elements(): this rank's weights, which are the fp32 master too
  /// \param gathered  stage 3: memory of the persistent unit and plan::kGatherSlots times the largest other unit
  Parameters(const Zero& zero, comm::Communicator& communicator, TensorView owned, TensorView gathered,
             Gradients* gradients);
  /// Waits for the gathers under way, which use memory of others: a step may have ended in an exception.
  ~Parameters() override;
  Parameters(const Parameters&) = delete;
  Parameters& operator=(const Parameters&) = delete;

  void prefetch(int unit) override;
  void acquire(int unit) override;
  void release(int unit) override;
  [[nodiscard]] ConstTensorView weights(int unit) override;
  [[nodiscard]] TensorView gradient(int unit) override;

  /// This rank's weights of a unit: all of it or a shard.
  [[nodiscard]] TensorView owned(int unit) const;
  /// This rank's shard of a unit, at every stage.
  [[nodiscard]] TensorView shard(int unit) const;
  /// The unit's owned weights are being changed until `done`: gathered copies are void, later use waits.
  void updating(int unit, Event done);
  /// The event of the last update of the unit.
  [[nodiscard]] const Event& updated(int unit) const { return updated_.at(static_cast<std::size_t>(unit)); }
  /// Blocks until a gather that prefetch started is over (measurements).
  void wait_for_gather(int unit);
  /// Gathers that were started, for tests of the step program.
  [[nodiscard]] std::uint64_t gathers() const noexcept { return gathers_; }

 private:
  struct Slot {
    TensorView memory;
    int unit = -1;        // what it holds; -1: nothing of use
    int users = 0;        // acquires without a release
    bool wanted = false;  // prefetched, not yet acquired
    std::uint64_t last_use = 0;
    Event gathered;
  };
  [[nodiscard]] Slot* find(int unit);
  [[nodiscard]] Slot* place_for(int unit);
  void gather(Slot& slot, int unit);

  Zero zero_;
  comm::Communicator& communicator_;
  Gradients* gradients_;
  std::vector<TensorView> owned_;
  std::vector<Event> updated_;
  std::vector<Slot> slots_;  // slot 0 is the persistent unit's
  std::uint64_t uses_ = 0;
  std::uint64_t gathers_ = 0;
};

}  // namespace spillway::train
