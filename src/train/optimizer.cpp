// SPDX-License-Identifier: Apache-2.0
#include "train/optimizer.hpp"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "core/error.hpp"

namespace spillway::train {

std::vector<Extent> make_extents(const Zero& zero, std::int64_t elements) {
  std::vector<Extent> extents;
  for (int unit = 0; unit < zero.map->units(); ++unit) {
    const std::int64_t size = zero.owned(unit).size();
    for (std::int64_t begin = 0; begin < size; begin += elements)
      extents.push_back({unit, {begin, std::min(begin + elements, size)}});
  }
  return extents;
}

Optimizer::Optimizer(const Zero& zero, const model::T5Layout& layout, Settings settings, OptimizerStateOptions options,
                     const Arena& arena, offload::BlockStore* store, kernels::OptimizerOps& ops, Device& device,
                     Parameters& parameters, Gradients& gradients)
    : zero_(zero),
      settings_(settings),
      options_(std::move(options)),
      ops_(ops),
      parameters_(parameters),
      gradients_(gradients),
      extents_(make_extents(zero, options_.extent_elements)),
      inline_(device.create_compute_queue()),
      worker_(device.create_worker_queue("update")) {
  for (int unit = 0; unit < zero_.map->units(); ++unit) {
    std::vector<Segment>& segments = segments_.emplace_back();
    for (const TensorPiece& piece : zero_.map->pieces(unit, zero_.owned(unit))) {
      const bool decay = layout.traits()[static_cast<std::size_t>(piece.tensor)].decay;
      const Range range{piece.range_begin, piece.range_begin + piece.count};
      // Padding between tensors is zero and stays zero, so neighbours of one kind run together.
      if (!segments.empty() && segments.back().decay == decay) segments.back().range.end = range.end;
      else segments.push_back({range, decay});
    }
  }
  for (std::size_t moment = 0; moment < kMoments; ++moment) {
    if (options_.tiers[moment] != plan::Tier::nvme) {
      resident_[moment] = arena.floats(kMomentNames[moment], zero_.owned_elements());
      continue;
    }
    nvme_kind_[moment] = static_cast<int>(options_.files.kinds.size());
    options_.files.kinds.emplace_back(kMomentNames[moment]);
  }
  if (options_.files.kinds.empty()) return;
  std::vector<std::vector<std::size_t>> bytes;
  for (const Extent& extent : extents_)
    bytes.emplace_back(options_.files.kinds.size(), static_cast<std::size_t>(extent.range.size()) * sizeof(float));
  files_ = std::make_unique<offload::ExtentStore>(*store, options_.files, std::move(bytes));
  const TensorView memory = arena.bytes(plan::entry::kRing);
  ring_memory_ = {memory.data(), memory.bytes()};
  ring_ = std::make_unique<offload::StateRing>(
      *files_, ring_memory_, offload::StateRingOptions{.slots = kRingSlots, .wait_at_once = options_.wait_at_once});
}

std::span<float> Optimizer::resident(Moment moment, int unit) const {
  return resident_[static_cast<std::size_t>(moment)]
      .flat(zero_.owned_offset(unit), zero_.owned(unit).size())
      .as<float>();
}

void Optimizer::update(int unit, const UpdateNumbers& numbers) {
  read_extent_.reset();
  worker_->submit([this, unit, numbers] {
    try {
      for (std::size_t extent = 0; extent < extents_.size(); ++extent)
        if (extents_[extent].unit == unit) update_extent(extent, numbers);
    } catch (const IoError& error) {
      throw IoError(fmt::format("optimizer step {}, update of unit {}: {}", numbers.step, unit, error.what()));
    }
    // The last unit's write-backs need not be waited for: the next step's first reads find them in order.
    if (ring_) nvme_seconds_ = ring_->blocked_seconds();
  });
  const Event done = worker_->record();
  if (options_.wait_at_once) done.wait();
  parameters_.updating(unit, done);
}

void Optimizer::update_extent(std::size_t index, const UpdateNumbers& numbers) {
  const Extent& extent = extents_[index];
  std::optional<offload::StateRing::Lease> lease;
  if (ring_) {
    lease.emplace(ring_->acquire(index));
    for (std::size_t ahead = index + 1; ahead < std::min(index + kRingSlots - 1, extents_.size()); ++ahead)
      (void)ring_->prefetch(ahead);
  }
  std::array<TensorView, kMoments> moments;
  for (std::size_t moment = 0; moment < kMoments; ++moment) {
    if (nvme_kind_[moment] >= 0) {
      const auto bytes = lease->state(static_cast<std::size_t>(nvme_kind_[moment]));
      moments[moment] = {bytes.data(), DType::f32, {extent.range.size()}};
    } else {
      const auto all = resident(static_cast<Moment>(moment), extent.unit);
      const auto part =
          all.subspan(static_cast<std::size_t>(extent.range.begin), static_cast<std::size_t>(extent.range.size()));
      moments[moment] = {part, Shape{extent.range.size()}};
    }
  }
  for (const Segment& segment : segments_[static_cast<std::size_t>(extent.unit)]) {
    const std::int64_t begin = std::max(segment.range.begin, extent.range.begin);
    const std::int64_t count = std::min(segment.range.end, extent.range.end) - begin;
    if (count <= 0) continue;
    const std::int64_t inside = begin - extent.range.begin;
    ops_.adamw(*inline_, {.parameter = {.weight = parameters_.owned(extent.unit).flat(begin, count)},
                          .exp_avg = {.values = moments[0].flat(inside, count)},
                          .exp_avg_sq = {.values = moments[1].flat(inside, count)},
                          .gradient = gradients_.owned(extent.unit).flat(begin, count),
                          .learning_rate = numbers.learning_rate,
                          .beta1 = settings_.beta1,
                          .beta2 = settings_.beta2,
                          .eps = settings_.eps,
                          .weight_decay = segment.decay ? settings_.weight_decay : 0.0,
                          .step = numbers.step,
                          .gradient_scale = numbers.gradient_scale});
  }
  if (lease) lease->release();
}

void Optimizer::finish() {
  release_written();
  worker_->submit([this] {
    if (ring_) ring_->drain();
  });
  worker_->synchronize();
}

template <typename Visit>
void Optimizer::visit_extents(int unit, Range range, const Visit& visit) {
  for (std::size_t index = 0; index < extents_.size(); ++index) {
    const Extent& extent = extents_[index];
    const Range part{std::max(range.begin, extent.range.begin), std::min(range.end, extent.range.end)};
    if (extent.unit == unit && part.size() > 0) visit(index, part);
  }
}

void Optimizer::read(Moment moment, int unit, Range range, std::span<float> to) {
  if (!on_nvme(moment)) {
    std::ranges::copy(
        resident(moment, unit).subspan(static_cast<std::size_t>(range.begin), static_cast<std::size_t>(range.size())),
        to.begin());
    return;
  }
  const auto kind = static_cast<std::size_t>(nvme_kind_[static_cast<std::size_t>(moment)]);
  visit_extents(unit, range, [&](std::size_t index, Range part) {
    // The ring is idle while state is read out: its memory is the buffer, and an extent that several ranges share is read once.
    const std::span<std::byte> buffer = ring_memory_.subspan(0, files_->stored_bytes(index, kind));
    if (read_extent_ != std::pair(index, kind)) {
      read_extent_.reset();
      files_->read(index, kind, buffer).wait();
      read_extent_ = {index, kind};
    }
    std::memcpy(to.data() + (part.begin - range.begin),
                buffer.data() + static_cast<std::size_t>(part.begin - extents_[index].range.begin) * sizeof(float),
                static_cast<std::size_t>(part.size()) * sizeof(float));
  });
}

void Optimizer::write(Moment moment, int unit, Range range, std::span<const float> from) {
  if (!on_nvme(moment)) {
    std::ranges::copy(from, resident(moment, unit).begin() + range.begin);
    return;
  }
  read_extent_.reset();
  visit_extents(unit, range, [&](std::size_t index, Range part) {
    if (!written_ || written_->extent() != index) {
      release_written();
      written_.emplace(ring_->acquire(index));
    }
    const auto state = written_->state(static_cast<std::size_t>(nvme_kind_[static_cast<std::size_t>(moment)]));
    std::memcpy(state.data() + static_cast<std::size_t>(part.begin - extents_[index].range.begin) * sizeof(float),
                from.data() + (part.begin - range.begin), static_cast<std::size_t>(part.size()) * sizeof(float));
  });
}

void Optimizer::release_written() {
  if (!written_) return;
  offload::StateRing::Lease lease = std::move(*written_);
  written_.reset();
  lease.release();
}

}  // namespace spillway::train
