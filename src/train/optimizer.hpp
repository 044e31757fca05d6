// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/device.hpp"
#include "kernels/optimizer_ops.hpp"
#include "train/gradients.hpp"
#include "train/op_names.hpp"
#include "train/parameters.hpp"
#include "train/shard_state.hpp"
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
  Trace* trace = nullptr;     // told of the updates
  bool wait_at_once = false;  // test-only: nothing of the update overlaps anything
};

/// The update of what a rank owns: unit by unit on a queue of its own, extent by extent, those on nvme through the ring. On the host,
/// and where the ring is waited for, a thread does it; what a GPU alone does is queued at once.
class Optimizer {
 public:
  explicit Optimizer(const OptimizerParts& parts);
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  /// Starts the update of a trainable unit, once its gradient is summed; parameters.updating tells the others. Units in forward order.
  /// Collective where `prepare` is.
  void update(int unit, const UpdateNumbers& numbers);
  /// Blocks until all updates and write-backs are over. \throws IoError
  void finish();
  /// Seconds that updates have waited for the nvme tier so far.
  [[nodiscard]] double nvme_seconds() const noexcept { return nvme_seconds_; }

 protected:
  /// Whatever must be known of a whole unit before any of it is updated. On the thread that calls update.
  virtual void prepare(int unit, const UpdateNumbers& numbers) = 0;
  /// Updates one extent. On the optimizer's thread.
  virtual void update_extent(const Extent& extent, const StateViews& views, const UpdateNumbers& numbers) = 0;

  /// Blocks until the updates started so far are over.
  void wait_for_updates();
  /// The queue of the update's ops; inline on the host.
  [[nodiscard]] Queue& queue() { return *queue_; }

  OptimizerParts parts_;

 private:
  void update_now(int unit, const UpdateNumbers& numbers, const Trace::UpdateMarks& marks);

  std::unique_ptr<Queue> queue_;
  std::atomic<double> nvme_seconds_ = 0.0;
  std::unique_ptr<Queue> worker_;  // its tasks must be over before a derived class goes: see stop()

 protected:
  /// Ends the optimizer's thread. Derived classes call it in their destructors, while update_extent is still theirs.
  void stop() noexcept { worker_.reset(); }
};

}  // namespace spillway::train
