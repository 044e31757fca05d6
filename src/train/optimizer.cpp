// SPDX-License-Identifier: Apache-2.0
#include "train/optimizer.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

#include <fmt/format.h>

#include "core/device_meters.hpp"
#include "core/error.hpp"
#include "core/profiler_range.hpp"

namespace spillway::train {

namespace {

/// Two queues' work.
class BothEvents final : public EventState {
 public:
  BothEvents(Event one, Event other) : one_(std::move(one)), other_(std::move(other)) {}
  void wait() override {
    one_.wait();
    other_.wait();
  }
  [[nodiscard]] bool ready() override { return one_.ready() && other_.ready(); }

 private:
  Event one_, other_;
};

}  // namespace

Optimizer::Optimizer(const OptimizerParts& parts)
    : parts_(parts),
      host_(parts.device.is_host()),
      queue_(parts.device.create_compute_queue()),
      worker_(parts.device.create_worker_queue("update")) {
  if (host_ || !parts.state.uses_ring()) return;
  ring_queue_ = parts.device.create_compute_queue();
  marks_queue_ = parts.device.create_compute_queue();
}

void Optimizer::update(int unit, const UpdateNumbers& numbers) {
  prepare(unit, numbers);
  const Trace::UpdateMarks marks = parts_.trace != nullptr ? parts_.trace->update(unit) : Trace::UpdateMarks();
  Event done;
  if (host_) {
    done = start_on_worker(unit, numbers, marks, Part::all, {});
  } else if (!has(unit, Part::through_ring)) {
    marks.begin(*queue_);
    update_part(*queue_, unit, numbers, Part::in_memory);
    marks.end(*queue_);
    done = queue_->record();
  } else if (!has(unit, Part::in_memory)) {
    done = start_on_worker(unit, numbers, marks, Part::through_ring, {});
  } else {
    marks.begin(*queue_);
    update_part(*queue_, unit, numbers, Part::in_memory);
    const Event in_memory = queue_->record();
    const Event through_ring = start_on_worker(unit, numbers, marks, Part::through_ring, in_memory);
    done = Event(std::make_shared<BothEvents>(in_memory, through_ring));
  }
  if (parts_.wait_at_once) done.wait();
  parts_.parameters.updating(unit, done);
}

bool Optimizer::has(int unit, Part part) const {
  return std::ranges::any_of(parts_.state.stretches_of(unit), [part](const ShardState::Stretch& stretch) {
    return stretch.through_ring == (part == Part::through_ring);
  });
}

/// \param in_memory  the rest of the unit's update, which has been marked as begun
Event Optimizer::start_on_worker(int unit, const UpdateNumbers& numbers, const Trace::UpdateMarks& marks, Part part,
                                 const std::optional<Event>& in_memory) {
  worker_->submit([this, unit, numbers, marks, part, in_memory] {
    Queue& queue = host_ ? *queue_ : *ring_queue_;
    if (!in_memory) marks.begin(queue);
    update_part(queue, unit, numbers, part);
    Queue& last = in_memory ? *marks_queue_ : queue;
    if (in_memory) last.wait(*in_memory);
    marks.end(last);
    nvme_seconds_ = parts_.state.nvme_seconds();
  });
  return worker_->record();
}

void Optimizer::update_part(Queue& queue, int unit, const UpdateNumbers& numbers, Part part) {
  const ProfilerRange range(parts_.names.update(unit).c_str());
  try {
    for (const ShardState::Stretch& stretch : parts_.state.stretches_of(unit)) {
      if (part != Part::all && stretch.through_ring != (part == Part::through_ring)) continue;
      ShardState::Lease lease =
          parts_.state.acquire(stretch, queue, parts_.gradients.at_rest(unit, stretch.whole.range));
      const auto start = std::chrono::steady_clock::now();
      update_extent(queue, stretch.whole, lease.views(), numbers);
      if (host_) cpu_seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      else if (stretch.through_ring) count_in_place(stretch);
      // What the ring writes back must be updated.
      if (stretch.through_ring) queue.synchronize();
      lease.release();
    }
    // Moments that are still being written back need not be waited for: the next step's reads find them in order. Weights are
    // read past the ring.
    if (part != Part::in_memory && parts_.state.on_nvme(StateKind::weight)) parts_.state.flush();
  } catch (const IoError& error) {
    throw IoError(fmt::format("optimizer step {}, update of unit {}: {}", numbers.step, unit, error.what()));
  }
}

/// Kernels reach into pinned memory for what passes through the ring, and read and write it there.
void Optimizer::count_in_place(const ShardState::Stretch& stretch) {
  const std::uint64_t bytes = parts_.state.bytes_outside_device(stretch);
  if (DeviceMeters* meters = meters_of(parts_.device)) meters->link().add({.up = bytes, .down = bytes});
}

void Optimizer::wait_for_updates() {
  worker_->synchronize();
  queue_->synchronize();
}

void Optimizer::finish() {
  wait_for_updates();
  worker_->submit([this] { parts_.state.drain(); });
  worker_->synchronize();
}

}  // namespace spillway::train
