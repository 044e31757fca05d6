// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "core/device.hpp"
#include "kernels/optimizer_ops.hpp"
#include "model/t5_layout.hpp"
#include "offload/extent_store.hpp"
#include "offload/state_ring.hpp"
#include "plan/plan.hpp"
#include "train/arena.hpp"
#include "train/gradients.hpp"
#include "train/parameters.hpp"
#include "train/zero.hpp"

namespace spillway::train {

/// AdamW's two moments, in the order of kinds.
enum class Moment : std::size_t { exp_avg, exp_avg_sq };
inline constexpr std::size_t kMoments = 2;
inline constexpr std::array<const char*, kMoments> kMomentNames = {"exp_avg", "exp_avg_sq"};

/// A fixed range of one unit's owned parameters: what the update and the tiers move at a time.
struct Extent {
  int unit = 0;
  Range range;  // in the unit's owned elements
};

/// Every unit's owned parameters cut into extents of at most `elements` (a multiple of kShardAlignment), in forward order.
[[nodiscard]] std::vector<Extent> make_extents(const Zero& zero, std::int64_t elements);

/// The numbers of one step's update.
struct UpdateNumbers {
  double learning_rate = 0.0;
  std::int64_t step = 1;        // Adam's t, from 1
  float gradient_scale = 1.0F;  // clipping
};

/// How the optimizer state is kept; set by the plan and the configuration.
struct OptimizerStateOptions {
  std::array<plan::Tier, kMoments> tiers = {plan::Tier::device, plan::Tier::device};
  std::int64_t extent_elements = 0;
  offload::ExtentStoreOptions files;  // kinds are filled in
  bool wait_at_once = false;          // test-only: nothing of the update overlaps anything
};

/// The moments on their tiers, and AdamW over them: unit by unit on a thread of its own, extents on nvme through a ring.
class Optimizer {
 public:
  struct Settings {
    double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.0;
  };

  /// \param store  for extents on nvme; null if there are none
  Optimizer(const Zero& zero, const model::T5Layout& layout, Settings settings, OptimizerStateOptions options,
            const Arena& arena, offload::BlockStore* store, kernels::OptimizerOps& ops, Device& device,
            Parameters& parameters, Gradients& gradients);

  /// Slots of the ring of extents on nvme.
  static constexpr int kRingSlots = 4;

  /// Starts the unit's update after what is on the queue; parameters.updating tells the others. Units in forward order.
  void update(int unit, const UpdateNumbers& numbers);
  /// Blocks until all updates and write-backs are over.
  void finish();

  /// Copies a moment of part of the owned elements out and in (checkpoints). No update may be under way; finish() follows the last
  /// write.
  void read(Moment moment, int unit, Range range, std::span<float> to);
  void write(Moment moment, int unit, Range range, std::span<const float> from);

  /// Seconds that updates have waited for the nvme tier so far.
  [[nodiscard]] double nvme_seconds() const noexcept { return nvme_seconds_; }

 private:
  struct Segment {
    Range range;  // in the unit's owned elements
    bool decay;
  };
  void release_written();
  void update_extent(std::size_t extent, const UpdateNumbers& numbers);
  [[nodiscard]] bool on_nvme(Moment moment) const { return nvme_kind_[static_cast<std::size_t>(moment)] >= 0; }
  [[nodiscard]] std::span<float> resident(Moment moment, int unit) const;
  template <typename Visit>
  void visit_extents(int unit, Range range, const Visit& visit);

  Zero zero_;
  Settings settings_;
  OptimizerStateOptions options_;
  kernels::OptimizerOps& ops_;
  Parameters& parameters_;
  Gradients& gradients_;
  std::vector<Extent> extents_;
  std::vector<std::vector<Segment>> segments_;  // of each unit
  std::array<TensorView, kMoments> resident_;
  std::array<int, kMoments> nvme_kind_ = {-1, -1};  // the store's kind of each moment that is on nvme
  std::unique_ptr<offload::ExtentStore> files_;
  std::unique_ptr<offload::StateRing> ring_;
  std::optional<offload::StateRing::Lease>
      written_;  // the extent of the last write(), which the next one may be about too
  std::span<std::byte> ring_memory_;
  std::optional<std::pair<std::size_t, std::size_t>>
      read_extent_;  // extent and kind that read() left in the ring's memory
  std::unique_ptr<Queue> inline_;
  std::atomic<double> nvme_seconds_ = 0.0;
  std::unique_ptr<Queue> worker_;  // last: ends before what its tasks use
};

}  // namespace spillway::train
