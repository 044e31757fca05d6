// SPDX-License-Identifier: Apache-2.0
#include "train/shard_state.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "core/error.hpp"

namespace spillway::train {
namespace {

std::size_t index_of(StateKind kind) { return static_cast<std::size_t>(kind); }
/// Of the memories.
std::size_t index_of(plan::Tier tier) { return tier == plan::Tier::host ? 1 : 0; }

}  // namespace

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
  uses_ring_.resize(extents_.size());
  const StatePlaces places(zero_, layout_, extents_, options_.whole_weights);
  for (const StateKind kind : kAllStateKinds) {
    const std::size_t k = index_of(kind);
    places_[k] = places.places(kind, options_.placement);
    for (const plan::Tier tier : {plan::Tier::device, plan::Tier::host})
      memory_[k][index_of(tier)] = arena.bytes(StatePlaces::entry_name(kind, layout_), tier);
    for (std::size_t extent = 0; extent < extents_.size(); ++extent) {
      if (!on_nvme(kind, extent)) {
        check_memory(kind, extent);
        continue;
      }
      uses_ring_[extent] = true;
      if (nvme_kinds_[k]) continue;
      nvme_kinds_[k] = options_.files.kinds.size();
      options_.files.kinds.emplace_back(name_of(kind));
    }
  }
  if (const TensorView link = arena.bytes(plan::entry::kLinkRing, plan::Tier::device))
    link_ =
        std::make_unique<LinkRing>(device, link, options_.link_offsets.back(), extents_.size(), options_.wait_at_once);
  if (const TensorView pinned = arena.bytes(plan::entry::kCpuRing, plan::Tier::host))
    cpu_ring_ = std::make_unique<CpuRing>(device, pinned, options_.cpu_offsets.back(), options_.wait_at_once);
  make_stretches();
  const TensorView transfer = arena.bytes(plan::entry::kTransfer);
  transfer_ = {reinterpret_cast<float*>(transfer.data()), transfer.bytes() / sizeof(float)};
  if (!options_.files.kinds.empty()) make_files(arena, store);
}

void ShardState::make_stretches() {
  stretches_of_.resize(static_cast<std::size_t>(layout_.units()));
  for (std::size_t extent = 0; extent < extents_.size(); ++extent) {
    std::vector<Stretch>& stretches = stretches_of_[static_cast<std::size_t>(extents_[extent].unit)];
    const bool on_cpu = cpu_ring_ != nullptr && options_.placement.updated_on_cpu(extent);
    const bool linked = link_ != nullptr && !on_cpu && !uses_ring_[extent] &&
                        layout_.trainable(extents_[extent].unit) &&
                        (gradient_over_link(extent) ||
                         std::ranges::any_of(kAllStateKinds, [&](StateKind kind) { return over_link(kind, extent); }));
    const bool goes_on = !stretches.empty() && !linked && !on_cpu && !uses_ring_[extent] &&
                         !stretches.back().through_ring && !stretches.back().over_link && !stretches.back().on_cpu &&
                         std::ranges::all_of(places_, [extent](const std::vector<StatePlaces::Place>& of_kind) {
                           return of_kind[extent].tier == of_kind[extent - 1].tier;
                         });
    if (goes_on) stretches.back().whole.range.end = extents_[extent].range.end;
    else
      stretches.push_back({.first = extent,
                           .whole = extents_[extent],
                           .through_ring = uses_ring_[extent],
                           .over_link = linked,
                           .on_cpu = on_cpu});
  }
}

std::size_t ShardState::end_of(const Stretch& stretch) const {
  std::size_t end = stretch.first + 1;
  while (end < extents_.size() && extents_[end].unit == stretch.whole.unit &&
         extents_[end].range.end <= stretch.whole.range.end)
    ++end;
  return end;
}

void ShardState::make_files(const Arena& arena, offload::BlockStore* store) {
  std::vector<std::vector<std::size_t>> sizes;
  for (const Extent& extent : extents_) {
    std::vector<std::size_t>& of_extent = sizes.emplace_back();
    for (const StateKind kind : kAllStateKinds)
      if (on_nvme(kind))
        of_extent.push_back(on_nvme(kind, sizes.size() - 1) ? layout_.bytes(kind, extent.unit, extent.range.size())
                                                            : 0);
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

/// The plan's ledger must have what the places say.
void ShardState::check_memory(StateKind kind, std::size_t extent) const {
  const StatePlaces::Place& place = places_[index_of(kind)][extent];
  const std::size_t end = place.offset + layout_.bytes(kind, extents_[extent].unit, place.elements);
  const std::size_t found = memory_[index_of(kind)][index_of(place.tier)].bytes();
  if (layout_.format(kind, extents_[extent].unit) != StorageFormat::none && end > found)
    throw Error(fmt::format("ledger entry \"{}\" on {}: expected {} bytes or more, found {}",
                            StatePlaces::entry_name(kind, layout_), plan::name_of(place.tier), end, found));
}

std::byte* ShardState::run(StateKind kind, std::size_t extent) const {
  const StatePlaces::Place& place = places_[index_of(kind)][extent];
  return memory_[index_of(kind)][index_of(place.tier)].data() + place.offset;
}

std::size_t ShardState::bytes_outside_device(const Stretch& stretch) const {
  std::size_t bytes = 0;
  for (const StateKind kind : kAllStateKinds)
    if (places_[index_of(kind)][stretch.first].tier != plan::Tier::device)
      bytes += layout_.bytes(kind, stretch.whole.unit, stretch.whole.range.size());
  return bytes;
}

TensorView ShardState::weights(int unit) const {
  const std::vector<std::size_t>& extents = extents_of(unit);
  if (extents.empty()) return {memory_[index_of(StateKind::weight)][0].data(), layout_.weight_dtype(), {0}};
  const std::int64_t elements = places_[index_of(StateKind::weight)][extents.front()].elements;
  return {run(StateKind::weight, extents.front()), layout_.weight_dtype(), {elements}};
}

bool ShardState::parameters_in_memory(int unit) const {
  const std::vector<std::size_t>& extents = extents_of(unit);
  if (extents.empty()) return true;
  return std::ranges::all_of(std::array{StateKind::weight, StateKind::master}, [&](StateKind kind) {
    return options_.placement.in_one_memory(index_of(kind), extents.front(), extents.back() + 1);
  });
}

kernels::ParameterView ShardState::parameter(int unit, Range owned) const {
  if (!parameters_in_memory(unit)) throw Error(fmt::format("the parameters of unit {} are not in one memory", unit));
  if (extents_of(unit).empty()) return {};
  const std::size_t first = extents_of(unit).front();
  return {resident(StateKind::weight, first, owned).values, resident(StateKind::master, first, owned).values};
}

kernels::StateView ShardState::resident(StateKind kind, std::size_t extent, Range part) const {
  const StatePlaces::Place& place = places_[index_of(kind)][extent];
  const int unit = extents_[extent].unit;
  const std::int64_t shift = place.begin - extents_[extent].range.begin;
  return layout_.view(kind, unit, {run(kind, extent), layout_.bytes(kind, unit, place.elements)}, place.elements,
                      {part.begin + shift, part.end + shift});
}

StateViews ShardState::views_of(const Stretch& stretch, const offload::StateRing::Lease* lease) const {
  const Extent& part = stretch.whole;
  const auto view = [&](StateKind kind) {
    if (!on_nvme(kind, stretch.first)) return resident(kind, stretch.first, part.range);
    if (lease == nullptr) return kernels::StateView{};
    return layout_.view(kind, part.unit, lease->state(*nvme_kind(kind)), part.range.size(), {0, part.range.size()});
  };
  return {.parameter = {view(StateKind::weight).values, view(StateKind::master).values},
          .exp_avg = view(StateKind::exp_avg),
          .exp_avg_sq = view(StateKind::exp_avg_sq)};
}

bool ShardState::over_link(StateKind kind, std::size_t extent) const {
  return places_[index_of(kind)][extent].tier == plan::Tier::host &&
         layout_.format(kind, extents_[extent].unit) != StorageFormat::none;
}

bool ShardState::gradient_over_link(std::size_t extent) const {
  const std::vector<std::vector<plan::Tier>>& tiers = options_.placement.tiers;
  return tiers.size() > plan::kGradientKind && tiers[plan::kGradientKind][extent] == plan::Tier::host;
}

/// The parts of a format (int8: codes and scales) are pieces of their own: in memory they lie among those of the extents beside this one.
StateViews ShardState::bring(const Stretch& stretch, Queue& queue, const GradientAtRest& gradient) {
  StateViews views = views_of(stretch, nullptr);
  const Range whole{0, stretch.whole.range.size()};
  std::byte* const place = link_->next_place();
  std::vector<LinkRing::Piece> pieces;
  const auto move = [&](const TensorView& from, const TensorView& to) {
    if (from.bytes() > 0) pieces.push_back({.on_host = from.data(), .on_device = to.data(), .bytes = from.bytes()});
  };
  for (const StateKind kind : kAllStateKinds) {
    if (!over_link(kind, stretch.first)) continue;
    const std::span<std::byte> memory(place + options_.link_offsets[index_of(kind)],
                                      layout_.bytes(kind, stretch.whole.unit, whole.end));
    const kernels::StateView to = layout_.view(kind, stretch.whole.unit, memory, whole.end, whole);
    if (kind == StateKind::weight || kind == StateKind::master) {
      TensorView& from = kind == StateKind::weight ? views.parameter.weight : views.parameter.master;
      move(std::exchange(from, to.values), to.values);
      continue;
    }
    kernels::StateView& from = kind == StateKind::exp_avg ? views.exp_avg : views.exp_avg_sq;
    move(from.values, to.values);
    if (to.scales) move(from.scales, to.scales);
    from = to;
  }
  views.gradient = gradient.values;
  if (gradient.values && gradient_over_link(stretch.first)) {
    views.gradient = {place + options_.link_offsets[plan::kGradientKind], gradient.values.dtype(),
                      gradient.values.shape()};
    pieces.push_back({.on_host = gradient.values.data(),
                      .on_device = views.gradient.data(),
                      .bytes = gradient.values.bytes(),
                      .comes_back = false});
  }
  link_->bring(queue, stretch.first, std::move(pieces), gradient.there);
  return views;
}

ShardState::Lease ShardState::acquire(std::size_t extent) {
  Lease lease;
  if (uses_ring(extent)) {
    buffered_.fill(std::nullopt);  // the ring's memory is the buffer
    lease.ring_.emplace(ring_->acquire(extent));
    prefetch_after(extent);
  }
  lease.views_ = views_of({.first = extent, .whole = extents_[extent]}, lease.ring_ ? &*lease.ring_ : nullptr);
  return lease;
}

ShardState::Lease ShardState::acquire(const Stretch& stretch, Queue& queue, const GradientAtRest& gradient) {
  Lease lease = acquire(stretch.first);
  if (stretch.over_link) {
    lease.link_ = link_.get();
    lease.queue_ = &queue;
    lease.views_ = bring(stretch, queue, gradient);
    return lease;
  }
  if (!stretch.through_ring) lease.views_ = views_of(stretch, nullptr);
  queue.wait(gradient.there);
  lease.views_.gradient = gradient.values;
  return lease;
}

/// The views of what the CPU updates with all that is on the device in `place` instead; \return those pieces.
std::vector<CpuRing::Piece> ShardState::move_down(const Stretch& stretch, std::byte* place, StateViews& views) const {
  const Range whole{0, stretch.whole.range.size()};
  std::vector<CpuRing::Piece> pieces;
  const auto move = [&](TensorView& from, const TensorView& to) {
    if (from.bytes() > 0) pieces.push_back({.on_device = from.data(), .on_host = to.data(), .bytes = from.bytes()});
    from = to;
  };
  for (const StateKind kind : kAllStateKinds) {
    const std::size_t k = index_of(kind);
    if (places_[k][stretch.first].tier != plan::Tier::device) continue;
    const std::size_t bytes = layout_.bytes(kind, stretch.whole.unit, whole.end);
    if (bytes == 0) continue;
    const kernels::StateView to =
        layout_.view(kind, stretch.whole.unit, {place + options_.cpu_offsets[k], bytes}, whole.end, whole);
    if (kind == StateKind::weight) move(views.parameter.weight, to.values);
    if (kind == StateKind::master) move(views.parameter.master, to.values);
    if (kind != StateKind::exp_avg && kind != StateKind::exp_avg_sq) continue;
    kernels::StateView& moment = kind == StateKind::exp_avg ? views.exp_avg : views.exp_avg_sq;
    move(moment.values, to.values);
    if (to.scales) move(moment.scales, to.scales);
  }
  return pieces;
}

/// Where the CPU reads a gradient: where it rests, if that is in host memory, or in `place`.
TensorView ShardState::gradient_for_cpu(const Stretch& stretch, const GradientAtRest& gradient,
                                        std::byte* place) const {
  if (gradient_over_link(stretch.first)) return gradient.values;
  return {place + options_.cpu_offsets[plan::kGradientKind], gradient.values.dtype(), gradient.values.shape()};
}

void ShardState::fetch(const Stretch& stretch, const GradientAtRest& gradient) {
  std::byte* const place = cpu_ring_->next_place();
  StateViews views = views_of(stretch, nullptr);
  std::vector<CpuRing::Piece> pieces = move_down(stretch, place, views);
  if (const TensorView to = gradient_for_cpu(stretch, gradient, place); to.data() != gradient.values.data())
    pieces.push_back(
        {.on_device = gradient.values.data(), .on_host = to.data(), .bytes = to.bytes(), .changes = false});
  cpu_ring_->fetch(stretch.first, std::move(pieces));
}

ShardState::Lease ShardState::acquire_on_cpu(const Stretch& stretch, const GradientAtRest& gradient) {
  Lease lease = acquire(stretch.first);
  gradient.there.wait();
  cpu_ring_->take(stretch.first);
  lease.cpu_ = cpu_ring_.get();
  std::byte* const place = cpu_ring_->taken_place();
  (void)move_down(stretch, place, lease.views_);
  lease.views_.gradient = gradient_for_cpu(stretch, gradient, place);
  return lease;
}

void ShardState::wait_until_back(Queue& queue, int unit) {
  if (!link_) return;
  for (const std::size_t extent : extents_of(unit)) link_->wait_until_back(queue, extent);
}

void ShardState::Lease::release() {
  if (link_ != nullptr) std::exchange(link_, nullptr)->take_back(*queue_);
  if (cpu_ != nullptr) std::exchange(cpu_, nullptr)->give_back();
  if (!ring_) return;
  offload::StateRing::Lease ring = std::move(*ring_);
  ring_.reset();
  ring.release();
}

/// Those that an update will ask for: frozen extents are never updated.
void ShardState::prefetch_after(std::size_t extent) {
  int ahead = kRingSlots - 2;
  for (std::size_t next = extent + 1; next < extents_.size() && ahead > 0; ++next) {
    if (!uses_ring(next) || !layout_.trainable(extents_[next].unit)) continue;
    (void)ring_->prefetch(next);
    --ahead;
  }
}

void ShardState::flush() {
  if (ring_) ring_->flush();
}

void ShardState::drain() {
  if (ring_) ring_->drain();
  if (link_) link_->synchronize();
  if (cpu_ring_) cpu_ring_->synchronize();
}

}  // namespace spillway::train
