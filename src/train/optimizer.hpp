// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "core/device.hpp"
#include "kernels/optimizer_ops.hpp"
#include "train/gradients.hpp"
#include "train/op_names.hpp"
#include "train/parameters.hpp"
#include "train/shard_state.hpp"
#include "train/state_snapshot.hpp"
#include "train/trace.hpp"

namespace spillway::train {

/// The numbers of one step's update.
struct UpdateNumbers {
  double learning_rate = 0.0;
  std::int64_t step = 1;           // Adam's t, from 1
  float gradient_scale = 1.0F;     // clipping, and one over the loss scale
  std::uint64_t rounding_key = 0;  // mix_key(seed, t): of states that are rounded stochastically
};

/// What every optimizer works with. All of it outlives the optimizer.
struct OptimizerParts {
  const Zero& zero;
  ShardState& state;
  Parameters& parameters;
  Gradients& gradients;
  kernels::OptimizerOps& ops;
  Device& device;
  const OpNames& names;
  kernels::OptimizerOps* cpu_ops = nullptr;  // of what the CPU updates beside a GPU; null: nothing
  StateSnapshot* snapshot = nullptr;         // that updates wait for; null: none
  Trace* trace = nullptr;                    // told of the updates
  bool wait_at_once = false;                 // test-only: nothing of the update overlaps anything
};

/// What is updated at a time, and by whom.
struct ExtentUpdate {
  Queue& queue;
  kernels::OptimizerOps& ops;
  const Extent& extent;  // or neighbouring ones
  const StateViews& views;
};

/// The update of what a rank owns: unit by unit in forward order, extent by extent. On the host a thread of its own does all of it. A
/// GPU's update stream is given the extents in device and host memory at once, which it reads and writes in place; those with
/// anything on nvme wait for the ring on that thread, and have a stream of their own so that neither kind waits for the other. What the
/// CPU updates beside a GPU is that thread's too: it has the next extents come down while it updates one.
class Optimizer {
 public:
  explicit Optimizer(const OptimizerParts& parts);
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  /// Begins the update of a trainable unit, once its gradient is summed; parameters.updating tells the others. Units in forward order.
  /// Collective where `prepare` is. What is to pass over a GPU's link is started once there is room for it on the device, by the
  /// three below, as is all beyond the first units: the next forward pass need not wait until everything is started.
  void update(int unit, const UpdateNumbers& numbers);
  /// Starts updates of the next few units, as far as there is room now. Does not block.
  void start_some();
  /// Starts the unit's update and those before it, if they wait; blocks until there is room. Before anybody waits for parameters.updated.
  void start_until(int unit);
  void start_all();
  /// Blocks until all updates and write-backs are over. \throws IoError
  void finish();
  /// When what the updates started so far change on nvme is written there.
  [[nodiscard]] Event written_back();
  /// Seconds that updates have waited for the nvme tier so far.
  [[nodiscard]] double nvme_seconds() const noexcept { return nvme_seconds_; }
  /// Seconds that updates have waited for a snapshot's copies so far, on whatever thread.
  [[nodiscard]] double snapshot_seconds() const noexcept {
    return parts_.snapshot != nullptr ? parts_.snapshot->waited_seconds() : 0.0;
  }
  /// Seconds that CPUs have updated state so far, none of them waiting.
  [[nodiscard]] double cpu_seconds() const noexcept { return cpu_seconds_; }

 protected:
  /// Whatever must be known of a whole unit before any of it is updated. On the thread that calls update.
  virtual void prepare(int unit, const UpdateNumbers& numbers) = 0;
  /// Updates one extent, or neighbouring ones, in its queue. On the thread that calls update, or on the optimizer's, or on both at a time
  /// beside a GPU.
  virtual void update_extent(const ExtentUpdate& update, const UpdateNumbers& numbers) = 0;

  /// Blocks until the updates started so far are over.
  void wait_for_updates();

  OptimizerParts parts_;

 private:
  /// Which extents of a unit one way of updating takes.
  enum class Part { all, on_queue, on_worker };
  /// What an update of this step works with, for a thread that comes to it later: what it asked for itself might be the next step's.
  struct StepState {
    std::vector<GradientAtRest> gradients;  // of each unit
    std::uint64_t snapshots = 0;            // begun so far
  };
  [[nodiscard]] StepState step_state() const;
  /// A unit's part that the queue is to update, and how much of it the queue has.
  struct Waiting {
    int unit;
    UpdateNumbers numbers;
    StepState step;
    Trace::UpdateMarks marks;
    Event on_worker;       // the rest of the unit
    std::size_t next = 0;  // stretch
    bool begun = false;
  };
  [[nodiscard]] bool has(int unit, Part part) const;
  bool start_first(bool may_block);
  Event give_worker(int unit, const UpdateNumbers& numbers, const Trace::UpdateMarks& marks, Part part);
  void update_on_worker(Queue& queue, int unit, const UpdateNumbers& numbers, Part part, const StepState& step);
  void update_stretch(Queue& queue, const ShardState::Stretch& stretch, const UpdateNumbers& numbers,
                      const StepState& step);
  void update_on_cpu(const ShardState::Stretch& stretch, const UpdateNumbers& numbers, const StepState& step);
  void fetch_ahead(const std::vector<GradientAtRest>& gradients);
  [[nodiscard]] StateSnapshot::Change change_of(const ShardState::Stretch& stretch, const StepState& step) const;

  bool host_;
  std::unique_ptr<Queue> queue_;       // of extents in memory, and on the host of all
  std::unique_ptr<Queue> ring_queue_;  // a GPU's, of extents that pass through the ring
  std::unique_ptr<Queue> cpu_queue_;   // beside a GPU: inline, on the optimizer's thread
  std::deque<Waiting> waiting_;        // a GPU's, in forward order
  std::int64_t step_ = 0;              // of the last update
  int begun_ = 0;                      // units of it that were started at once
  // What the CPU updates beside a GPU, in the order of a step, and how far it is there. Only the optimizer's thread looks at it.
  std::vector<ShardState::Stretch> of_cpu_;
  std::size_t fetched_ = 0, updated_ = 0;
  std::atomic<double> nvme_seconds_ = 0.0;
  std::unique_ptr<Queue> worker_;  // its tasks must be over before a derived class goes: see stop()

 protected:
  /// Ends the optimizer's thread. Derived classes call it in their destructors, while update_extent is still theirs.
  void stop() noexcept { worker_.reset(); }

 private:
  void count_in_place(const ShardState::Stretch& stretch);
  std::atomic<double> cpu_seconds_ = 0.0;
};

}  // namespace spillway::train
