// SPDX-License-Identifier: Apache-2.0
#include "train/state_snapshot.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

#include <fmt/format.h>

#include "core/error.hpp"
#include "kernels/cpu/cpu_kernels.hpp"
#include "train/shard_state.hpp"

namespace spillway::train {

StateSnapshot::StateSnapshot(ShardState& state, SnapshotLayout layout, TensorView memory, Device& device)
    : state_(state),
      layout_(std::move(layout)),
      memory_(memory.data(), memory.bytes()),
      device_(device),
      // One thread: the others train.
      ops_(kernels::cpu::make_optimizer_ops(kernels::cpu::make_thread_pool(1))),
      reading_(make_host_device()->create_compute_queue()),
      copies_queue_(device.create_compute_queue()),
      of_extent_(state.extents().size()),
      copies_(layout_.parts().size()),
      copier_(device.create_worker_queue("snapshot")) {
  const std::size_t needed = std::min(layout_.least_bytes(), layout_.whole_bytes());
  if (memory_.size() < needed) throw Error(fmt::format("a snapshot needs {} bytes, found {}", needed, memory_.size()));
  for (std::size_t part = 0; part < layout_.parts().size(); ++part)
    of_extent_[layout_.parts()[part].extent].push_back(part);
}

StateSnapshot::~StateSnapshot() {
  give_up();
  copier_.reset();
  copies_queue_->record().wait_quietly();
}

void StateSnapshot::begin(Settled settled) {
  copier_->synchronize();
  {
    const std::scoped_lock lock(mutex_);
    if (!over() && read_ < layout_.parts().size()) throw Error("a snapshot is begun while another is read");
    settled_ = std::move(settled);
    std::ranges::fill(copies_, Copy());
    started_ = read_ = next_place_ = 0;
    given_up_ = false;
    error_ = nullptr;
    ++begun_;
  }
  copier_->submit([this] { copy_all(); });
}

Event StateSnapshot::wait_for_copies(const Change& change) {
  std::size_t needed = 0;  // parts, in order
  for (std::size_t extent = change.first; extent < change.end; ++extent)
    if (!of_extent_[extent].empty()) needed = std::max(needed, of_extent_[extent].back() + 1);
  std::unique_lock lock(mutex_);
  // The copies wait for the updates before them: such an update must not wait for the copies.
  if (change.begun != begun_) return {};
  if (started_ < needed && !over()) {
    const auto start = std::chrono::steady_clock::now();
    changed_.wait(lock, [&] { return started_ >= needed || over(); });
    waited_seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  // Copies from the device are made in order, so the last of them stands for all; others are there when they are started.
  for (std::size_t part = std::min(needed, started_); part > 0; --part)
    if (copies_[part - 1].there.state()) return copies_[part - 1].there;
  return {};
}

void StateSnapshot::wait_until_copied(const Change& change, Queue& queue) { queue.wait(wait_for_copies(change)); }

void StateSnapshot::wait_until_copied(const Change& change) { wait_for_copies(change).wait(); }

void StateSnapshot::give_up() noexcept {
  const std::scoped_lock lock(mutex_);
  given_up_ = true;
  changed_.notify_all();
}

void StateSnapshot::copy_all() noexcept {
  try {
    for (std::size_t part = 0; part < layout_.parts().size(); ++part)
      if (!copy(part)) return;
  } catch (...) {
    const std::scoped_lock lock(mutex_);
    error_ = std::current_exception();
    changed_.notify_all();
  }
}

/// \return false if it was given up
bool StateSnapshot::copy(std::size_t number) {
  const SnapshotLayout::Part& part = layout_.parts()[number];
  const std::optional<std::size_t> offset = place_for(number);
  if (!offset) return false;
  bool from_device = false;
  for (const SnapshotLayout::Run& run : layout_.runs(number)) {
    settle(part, run);
    const plan::Tier tier = state_.tier(run.kind, part.extent);
    const std::size_t bytes = state_.copy_out(run.kind, part.extent, part.range, memory_.subspan(*offset + run.offset),
                                              {device_, *copies_queue_});
    if (tier == plan::Tier::nvme) file_bytes_ += bytes;
    if (tier != plan::Tier::device || device_.is_host()) continue;
    from_device = true;
    link_bytes_ += bytes;
  }
  const Event there = from_device ? copies_queue_->record() : Event();
  const std::scoped_lock lock(mutex_);
  copies_[number] = {.offset = *offset, .there = there};
  started_ = number + 1;
  changed_.notify_all();
  return true;
}

/// Waits, where it must, until what is copied is as the last update left it. A unit's kinds follow one another: its events are soon ready.
void StateSnapshot::settle(const SnapshotLayout::Part& part, const SnapshotLayout::Run& run) {
  const Event& updated = settled_.updated[static_cast<std::size_t>(part.unit)];
  switch (state_.tier(run.kind, part.extent)) {
    case plan::Tier::device: copies_queue_->wait(updated); break;
    case plan::Tier::host:
      updated.wait();
      if (!settled_.back.empty()) settled_.back[part.extent].wait();
      break;
    case plan::Tier::nvme:
      updated.wait();
      settled_.written.wait();
      break;
  }
}

/// Blocks until the reader has left as much. None if it was given up.
std::optional<std::size_t> StateSnapshot::place_for(std::size_t part) {
  const std::size_t bytes = layout_.parts()[part].bytes;
  std::unique_lock lock(mutex_);
  const std::size_t offset = next_place_ + bytes <= memory_.size() ? next_place_ : 0;
  changed_.wait(lock, [&] { return over() || is_free(offset, bytes, part); });
  if (over()) return std::nullopt;
  next_place_ = offset + bytes;
  return offset;
}

/// Of what comes before the part.
bool StateSnapshot::is_free(std::size_t offset, std::size_t bytes, std::size_t part) const {
  for (std::size_t before = read_; before < part; ++before) {
    const std::size_t begin = copies_[before].offset, end = begin + layout_.parts()[before].bytes;
    if (offset < end && begin < offset + bytes) return false;
  }
  return true;
}

StateSnapshot::Copy StateSnapshot::wait_for_next() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return over() || started_ > read_; });
  if (error_) std::rethrow_exception(error_);
  if (given_up_) throw Error("the snapshot was given up");
  return copies_[read_];
}

void StateSnapshot::read(StateKind kind, int unit, Range range, std::span<float> to) {
  while (range.size() > 0) {
    if (read_ == layout_.parts().size()) throw Error("more is read from a snapshot than there is");
    const SnapshotLayout::Part& part = layout_.parts()[read_];
    if (part.kind != kind || part.unit != unit || range.begin < part.range.begin || range.begin >= part.range.end)
      throw Error(fmt::format("{} of unit {} from element {} is read from a snapshot that comes to {} of unit {} next",
                              name_of(kind), unit, range.begin, name_of(part.kind), part.unit));
    const Copy copy = wait_for_next();
    copy.there.wait();
    const std::int64_t end = std::min(range.end, part.range.end);
    const auto count = static_cast<std::size_t>(end - range.begin);
    decode(read_, copy.offset, {range.begin, end}, to.first(count));
    to = to.subspan(count);
    range.begin = end;
    if (end < part.range.end) continue;
    const std::scoped_lock lock(mutex_);
    ++read_;
    changed_.notify_all();
  }
}

void StateSnapshot::decode(std::size_t number, std::size_t offset, Range range, std::span<float> to) {
  const SnapshotLayout::Part& part = layout_.parts()[number];
  const TensorView values(to, Shape{range.size()});
  const auto stored = [&](const SnapshotLayout::Run& run) {
    return layout_.state().view(run.kind, part.unit, memory_.subspan(offset + run.offset, run.bytes),
                                run.elements.size(),
                                {range.begin - run.elements.begin, range.end - run.elements.begin});
  };
  const std::vector<SnapshotLayout::Run>& runs = layout_.runs(number);
  if (part.kind == StateKind::master)
    ops_->decode_parameter(
        *reading_, {.parameter = {stored(runs[0]).values, runs.size() > 1 ? stored(runs[1]).values : TensorView{}},
                    .values = values});
  else ops_->decode_state(*reading_, {.state = stored(runs[0]), .values = values, .sign = sign_of(part.kind)});
}

}  // namespace spillway::train
