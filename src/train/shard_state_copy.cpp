// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "core/error.hpp"
#include "train/shard_state.hpp"

// State in and out of a ShardState as fp32, for checkpoints and model files.

namespace spillway::train {
namespace {

constexpr std::int64_t kBlock = kernels::kStateBlock;

StateKind kind_of(const std::string& name) {
  for (const StateKind kind : {StateKind::master, StateKind::exp_avg, StateKind::exp_avg_sq})
    if (name == name_of(kind)) return kind;
  throw Error(fmt::format("there is no state of kind {}", name));
}

Range whole_blocks(Range range) { return {range.begin / kBlock * kBlock, round_up(range.end, kBlock)}; }

}  // namespace

template <typename Visit>
void ShardState::visit_extents(int unit, Range range, const Visit& visit) {
  for (const std::size_t index : extents_of(unit)) {
    const Extent& extent = extents_[index];
    const Range part{std::max(range.begin, extent.range.begin), std::min(range.end, extent.range.end)};
    if (part.size() > 0) visit(index, part);
  }
}

/// Of an extent's kind, wherever it is. The ring is idle while state is read out: its memory is the buffer, and an extent that
/// several ranges share is read once.
kernels::StateView ShardState::stored(StateKind kind, std::size_t index, Range part) {
  const Extent& extent = extents_[index];
  if (!on_nvme(kind, index)) return resident(kind, index, part);
  const auto k = static_cast<std::size_t>(kind);
  const std::size_t number = *nvme_kind(kind);
  const std::span<std::byte> buffer = ring_memory_.subspan(buffer_offsets_[k], files_->stored_bytes(index, number));
  if (buffered_[k] != index) {
    buffered_[k].reset();
    files_->read(index, number, buffer).wait();
    buffered_[k] = index;
  }
  return layout_.view(kind, extent.unit, buffer, extent.range.size(),
                      {part.begin - extent.range.begin, part.end - extent.range.begin});
}

std::size_t ShardState::copy_out(StateKind kind, std::size_t index, Range part, std::span<std::byte> to,
                                 const CopyOut& copies) const {
  if (on_nvme(kind, index)) {
    const std::size_t number = *nvme_kind(kind);
    const std::span<std::byte> whole = to.first(files_->stored_bytes(index, number));
    files_->read(index, number, whole).wait();
    return whole.size();
  }
  const int unit = extents_[index].unit;
  const kernels::StateView from = resident(kind, index, part);
  const kernels::StateView there = layout_.view(kind, unit, to, part.size(), {0, part.size()});
  std::size_t bytes = 0;
  for (const auto& [source, target] : {std::pair(from.values, there.values), std::pair(from.scales, there.scales)}) {
    if (!source) continue;
    bytes += source.bytes();
    if (tier(kind, index) == plan::Tier::host) std::memcpy(target.data(), source.data(), source.bytes());
    else copies.device.copy(copies.queue, target.data(), source.data(), source.bytes());
  }
  return bytes;
}

void ShardState::read(const std::string& name, int unit, Range range, std::span<float> to) {
  const StateKind kind = kind_of(name);
  visit_extents(unit, range, [&](std::size_t extent, Range part) {
    read_part(kind, extent, part,
              to.subspan(static_cast<std::size_t>(part.begin - range.begin), static_cast<std::size_t>(part.size())));
  });
}

void ShardState::read_part(StateKind kind, std::size_t extent, Range part, std::span<float> to) {
  for (std::int64_t begin = whole_blocks(part).begin; begin < part.end; begin += kTransferElements) {
    const Range blocks{begin, std::min(whole_blocks(part).end, begin + kTransferElements)};
    const std::span<float> values = transfer_.first(static_cast<std::size_t>(blocks.size()));
    const TensorView decoded(values, Shape{blocks.size()});
    if (kind == StateKind::master) {
      ops_.decode_parameter(*queue_, {.parameter = {stored(StateKind::weight, extent, blocks).values,
                                                    stored(StateKind::master, extent, blocks).values},
                                      .values = decoded});
    } else if (const kernels::StateView state = stored(kind, extent, blocks); state.values) {
      ops_.decode_state(*queue_, {.state = state, .values = decoded, .sign = sign_of(kind)});
    } else {
      std::ranges::fill(values, 0.0F);
    }
    queue_->synchronize();
    const Range wanted{std::max(part.begin, blocks.begin), std::min(part.end, blocks.end)};
    std::copy_n(values.begin() + (wanted.begin - blocks.begin), wanted.size(),
                to.begin() + (wanted.begin - part.begin));
  }
}

void ShardState::write(const std::string& name, int unit, Range range, std::span<const float> from) {
  const StateKind kind = kind_of(name);
  buffered_.fill(std::nullopt);
  const bool follows = pending_.unit == unit && pending_.kind == kind &&
                       pending_.begin + static_cast<std::int64_t>(pending_.values.size()) == range.begin;
  if (!follows) {
    write_pending();
    if (range.begin % kBlock != 0)
      throw Error(
          fmt::format("{} of unit {}: a write from element {} does not follow the last one", name, unit, range.begin));
    pending_ = {.kind = kind, .unit = unit, .begin = range.begin, .values = {}};
  }
  // Blocks of 256 are stored whole.
  pending_.values.insert(pending_.values.end(), from.begin(), from.end());
  const std::int64_t ready = static_cast<std::int64_t>(pending_.values.size()) / kBlock * kBlock;
  if (ready == 0) return;
  write_blocks(kind, unit, pending_.begin, std::span(pending_.values).first(static_cast<std::size_t>(ready)));
  pending_.values.erase(pending_.values.begin(), pending_.values.begin() + ready);
  pending_.begin += ready;
}

/// What follows in the block is padding.
void ShardState::write_pending() {
  if (pending_.values.empty()) return;
  pending_.values.resize(static_cast<std::size_t>(kBlock), 0.0F);
  write_blocks(pending_.kind, pending_.unit, pending_.begin, pending_.values);
  pending_ = {};
}

void ShardState::write_blocks(StateKind kind, int unit, std::int64_t begin, std::span<const float> from) {
  visit_extents(unit, {begin, begin + static_cast<std::int64_t>(from.size())}, [&](std::size_t extent, Range part) {
    write_part(kind, extent, part,
               from.subspan(static_cast<std::size_t>(part.begin - begin), static_cast<std::size_t>(part.size())));
  });
}

void ShardState::write_part(StateKind kind, std::size_t index, Range part, std::span<const float> from) {
  const Extent& extent = extents_[index];
  if (written_ != index) {
    release_written();
    written_lease_.emplace(acquire(index));
    written_ = index;
  }
  const StateViews& views = written_lease_->views();
  for (std::int64_t done = 0; done < part.size(); done += kTransferElements) {
    const std::int64_t count = std::min(kTransferElements, part.size() - done);
    const std::int64_t begin = part.begin + done - extent.range.begin;
    std::copy_n(from.begin() + done, count, transfer_.begin());
    const ConstTensorView values(TensorView(transfer_.first(static_cast<std::size_t>(count)), Shape{count}));
    if (kind == StateKind::master) {
      ops_.encode_parameter(*queue_, {.values = values, .parameter = views.parameter.flat(begin, count)});
    } else if (const kernels::StateView& state = kind == StateKind::exp_avg ? views.exp_avg : views.exp_avg_sq;
               state.values) {
      ops_.encode_state(*queue_, {.values = values,
                                  .state = state.flat(begin, count),
                                  .sign = sign_of(kind),
                                  .rounding = {.first = zero_.owned(extent.unit).begin + part.begin + done}});
    }
    queue_->synchronize();
  }
}

void ShardState::finish_writes() {
  write_pending();
  pending_ = {};
  release_written();
  drain();
}

void ShardState::release_written() {
  written_.reset();
  if (!written_lease_) return;
  Lease lease = std::move(*written_lease_);
  written_lease_.reset();
  lease.release();
}

}  // namespace spillway::train
