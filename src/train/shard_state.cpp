// SPDX-License-Identifier: Apache-2.0
#include "train/shard_state.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "core/error.hpp"

namespace spillway::train {
namespace {

constexpr std::size_t kRunAlignment = 64;  // of a unit's state in memory

std::size_t index_of(StateKind kind) { return static_cast<std::size_t>(kind); }

/// The elements of a unit that the memory of a kind holds.
Range held(StateKind kind, const Zero& zero, int unit, bool whole_weights) {
  if (kind == StateKind::weight && whole_weights) return {0, zero.map->unit_elements(unit)};
  return zero.owned(unit);
}

std::size_t aligned(std::size_t bytes) { return (bytes + kRunAlignment - 1) / kRunAlignment * kRunAlignment; }

}  // namespace

std::string ShardState::entry_name(StateKind kind, const StateLayout& layout) {
  const bool exact = kind == StateKind::weight && layout.weight_dtype() == DType::f32;
  return exact ? "weight (= master)" : name_of(kind);
}

std::size_t ShardState::bytes(StateKind kind, const Zero& zero, const StateLayout& layout, bool whole_weights) {
  std::size_t sum = 0;
  for (int unit = 0; unit < layout.units(); ++unit)
    sum += aligned(layout.bytes(kind, unit, held(kind, zero, unit, whole_weights).size()));
  return sum;
}

ShardState::ShardState(const Zero& zero, StateLayout layout, ShardStateOptions options, const Arena& arena,
                       offload::BlockStore* store, kernels::OptimizerOps& ops, Device& device)
    : zero_(zero),
      layout_(std::move(layout)),
      options_(std::move(options)),
      ops_(ops),
      extents_(make_extents(zero, options_.extent_elements)),
      extents_of_(static_cast<std::size_t>(layout_.units())),
      queue_(device.create_compute_queue()) {
  for (std::size_t extent = 0; extent < extents_.size(); ++extent)
    extents_of_[static_cast<std::size_t>(extents_[extent].unit)].push_back(extent);
  for (const StateKind kind : kAllStateKinds) {
    const std::size_t k = index_of(kind);
    if (bytes(kind, zero_, layout_, false) == 0) continue;
    if (options_.tiers[k] == plan::Tier::nvme) {
      nvme_kinds_[k] = options_.files.kinds.size();
      options_.files.kinds.emplace_back(name_of(kind));
      continue;
    }
    memory_[k] = arena.bytes(entry_name(kind, layout_));
    std::size_t offset = 0;
    for (int unit = 0; unit < layout_.units(); ++unit) {
      const Range range = held(kind, zero_, unit, options_.whole_weights);
      runs_[k].push_back({offset, range});
      offset += aligned(layout_.bytes(kind, unit, range.size()));
    }
    if (memory_[k].bytes() < offset)
      throw Error(fmt::format("ledger entry \"{}\": expected {} bytes, found {}", entry_name(kind, layout_), offset,
                              memory_[k].bytes()));
  }
  const TensorView transfer = arena.bytes(plan::entry::kTransfer);
  transfer_ = {reinterpret_cast<float*>(transfer.data()), transfer.bytes() / sizeof(float)};
  if (!options_.files.kinds.empty()) make_files(arena, store);
}

void ShardState::make_files(const Arena& arena, offload::BlockStore* store) {
  std::vector<std::vector<std::size_t>> sizes;
  for (const Extent& extent : extents_) {
    std::vector<std::size_t>& of_extent = sizes.emplace_back();
    for (const StateKind kind : kAllStateKinds)
      if (on_nvme(kind)) of_extent.push_back(layout_.bytes(kind, extent.unit, extent.range.size()));
  }
  files_ = std::make_unique<offload::ExtentStore>(*store, options_.files, std::move(sizes));
  const TensorView memory = arena.bytes(plan::entry::kRing);
  ring_memory_ = {memory.data(), memory.bytes()};
  ring_ = std::make_unique<offload::StateRing>(
      *files_, ring_memory_, offload::StateRingOptions{.slots = kRingSlots, .wait_at_once = options_.wait_at_once});
  std::size_t offset = 0;
  for (const StateKind kind : kAllStateKinds) {
    if (!on_nvme(kind)) continue;
    buffer_offsets_[index_of(kind)] = offset;
    std::size_t largest = 0;
    for (std::size_t extent = 0; extent < extents_.size(); ++extent)
      largest = std::max(largest, files_->stored_bytes(extent, *nvme_kind(kind)));
    offset += largest;
  }
}

TensorView ShardState::weights(int unit) const {
  const std::size_t k = index_of(StateKind::weight);
  const Run& run = runs_[k].at(static_cast<std::size_t>(unit));
  return {memory_[k].data() + run.offset, layout_.weight_dtype(), {run.held.size()}};
}

kernels::StateView ShardState::resident(StateKind kind, int unit, Range owned) const {
  if (runs_[index_of(kind)].empty()) return {};
  const Run& run = runs_[index_of(kind)][static_cast<std::size_t>(unit)];
  const std::int64_t shift = zero_.owned(unit).begin - run.held.begin;
  const std::size_t size = layout_.bytes(kind, unit, run.held.size());
  return layout_.view(kind, unit, {memory_[index_of(kind)].data() + run.offset, size}, run.held.size(),
                      {owned.begin + shift, owned.end + shift});
}

StateViews ShardState::views_of(std::size_t index, const offload::StateRing::Lease* lease) const {
  const Extent& extent = extents_[index];
  const auto view = [&](StateKind kind) {
    const std::optional<std::size_t> number = nvme_kind(kind);
    if (!number) return resident(kind, extent.unit, extent.range);
    return layout_.view(kind, extent.unit, lease->state(*number), extent.range.size(), {0, extent.range.size()});
  };
  return {.parameter = {view(StateKind::weight).values, view(StateKind::master).values},
          .exp_avg = view(StateKind::exp_avg),
          .exp_avg_sq = view(StateKind::exp_avg_sq)};
}

ShardState::Lease ShardState::acquire(std::size_t extent) {
  buffered_.fill(std::nullopt);
  Lease lease;
  if (ring_) {
    lease.ring_.emplace(ring_->acquire(extent));
    prefetch_after(extent);
  }
  lease.views_ = views_of(extent, lease.ring_ ? &*lease.ring_ : nullptr);
  return lease;
}

void ShardState::Lease::release() {
  if (!ring_) return;
  offload::StateRing::Lease ring = std::move(*ring_);
  ring_.reset();
  ring.release();
}

/// Frozen extents are never updated.
void ShardState::prefetch_after(std::size_t extent) {
  int ahead = kRingSlots - 2;
  for (std::size_t next = extent + 1; next < extents_.size() && ahead > 0; ++next) {
    if (!layout_.trainable(extents_[next].unit)) continue;
    (void)ring_->prefetch(next);
    --ahead;
  }
}

void ShardState::flush() {
  if (ring_) ring_->flush();
}

void ShardState::drain() {
  if (ring_) ring_->drain();
}

}  // namespace spillway::train
