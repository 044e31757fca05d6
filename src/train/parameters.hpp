// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "comm/communicator.hpp"
#include "core/device.hpp"
#include "model/ports.hpp"
#include "train/gradients.hpp"
#include "train/shard_state.hpp"
#include "train/weight_reader.hpp"
#include "train/zero.hpp"

namespace spillway::train {

/// Every unit's weights where the model finds them whole. Weights in memory at stages 0 to 2 are whole where they lie; after an update
/// of stages 1 and 2 the ranks of a group exchange what each has updated. Otherwise what a rank owns, in memory or on nvme or beside a
/// GPU, is gathered into one of a few places when the step program says so; persistent units have places of their own. That may be so
/// of some units and not of others. What place a unit gets follows from the order of the calls alone, so every rank gathers the same units.
class Parameters : public model::ParameterSource {
 public:
  /// \param group     the ranks that share one copy of the state
  /// \param gathered  memory for weights that are not whole where they lie, plan::Placement::gathered_bytes() of the weight's dtype
  /// \param readers   of each unit's weights; null for those that are in memory where they are used
  /// \param queue     whose ops use the weights: it waits for them, not the caller, where it is a GPU's
  Parameters(const Zero& zero, ShardState& state, comm::Communicator& group, TensorView gathered,
             std::vector<WeightReader*> readers, Gradients* gradients, const std::vector<plan::UnitRole>& units,
             Queue& queue);
  /// Waits for the gathers under way, which use memory of others: a step may have ended in an exception.
  ~Parameters() override;
  Parameters(const Parameters&) = delete;
  Parameters& operator=(const Parameters&) = delete;

  void prefetch(int unit) override;
  void acquire(int unit) override;
  void release(int unit) override;
  [[nodiscard]] ConstTensorView weights(int unit) override;
  [[nodiscard]] TensorView gradient(int unit) override;
  [[nodiscard]] bool overwrites_gradient(int unit) override;

  /// The unit's owned weights are being changed until `done`: copies are void, later use waits and gathers anew.
  void updating(int unit, Event done);
  /// Whether the unit's weights are where they are used, or on their way: prefetch() would do nothing.
  [[nodiscard]] bool holds(int unit) { return find(unit) != nullptr; }
  /// When the unit's last update is over.
  [[nodiscard]] const Event& updated(int unit) const { return updated_.at(static_cast<std::size_t>(unit)); }
  /// Whether the compute queue has waited for the unit's last update: nothing will wait again.
  [[nodiscard]] bool awaited(int unit) const { return awaited_.at(static_cast<std::size_t>(unit)); }
  /// Has the compute queue wait for it.
  void wait_for_update(int unit);
  /// Blocks until what prefetch started for a unit has come, where a thread reads it.
  void wait_for_read(int unit);
  /// Whether acquire() will have the compute queue wait for a copy over the link.
  [[nodiscard]] bool waits_for_copy(int unit);
  /// Blocks until a gather that prefetch started is over (measurements).
  void wait_for_gather(int unit);
  /// Gathers that were started, for tests of the step program.
  [[nodiscard]] std::uint64_t gathers() const noexcept { return gathers_; }

 private:
  struct Place {
    TensorView memory;
    bool own = false;     // for one unit only
    int unit = -1;        // what it holds; -1: nothing of use
    int users = 0;        // acquires without a release
    bool wanted = false;  // prefetched, not yet acquired
    std::uint64_t last_use = 0;
    Event read, gathered;
    bool awaited = false;  // by the compute queue
    Event used;            // the last ops that were given the weights that it holds
  };
  [[nodiscard]] Place* find(int unit);
  [[nodiscard]] Place* place_for(int unit);
  void gather(Place& place, int unit);
  [[nodiscard]] WeightReader* reader_of(int unit) const { return readers_[static_cast<std::size_t>(unit)]; }

  Zero zero_;
  ShardState& state_;
  comm::Communicator& group_;
  std::vector<WeightReader*> readers_;
  Gradients* gradients_;
  Queue& queue_;
  std::vector<Event> updated_;
  std::vector<bool> awaited_;
  std::vector<Place> places_;   // those of one unit first, in the order of units
  std::vector<int> own_place_;  // of each unit; -1: it shares
  std::uint64_t uses_ = 0;
  std::uint64_t gathers_ = 0;
};

}  // namespace spillway::train
