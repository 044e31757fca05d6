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

/// What the optimizer's thread was given, and then the copies that it left behind.
class WithCopies final : public EventState {
 public:
  /// \param copies  written before `work` is over
  WithCopies(Event work, std::shared_ptr<const Event> copies) : work_(std::move(work)), copies_(std::move(copies)) {}
  void wait() override {
    work_.wait();
    copies_->wait();
  }
  [[nodiscard]] bool ready() override { return work_.ready() && copies_->ready(); }

 private:
  Event work_;
  std::shared_ptr<const Event> copies_;
};

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

GradientAtRest part_of(const std::vector<GradientAtRest>& gradients, const ShardState::Stretch& stretch) {
  const GradientAtRest& whole = gradients[static_cast<std::size_t>(stretch.whole.unit)];
  return {.values = whole.values.flat(stretch.whole.range.begin, stretch.whole.range.size()), .there = whole.there};
}

bool is_of_worker(const ShardState::Stretch& stretch) { return stretch.through_ring || stretch.on_cpu; }

}  // namespace

Optimizer::Optimizer(const OptimizerParts& parts)
    : parts_(parts),
      host_(parts.device.is_host()),
      queue_(parts.device.create_compute_queue()),
      worker_(parts.device.create_worker_queue("update")) {
  if (host_) return;
  for (int unit = 0; unit < parts.zero.map->units(); ++unit)
    for (const ShardState::Stretch& stretch : parts.state.stretches_of(unit))
      if (stretch.on_cpu) of_cpu_.push_back(stretch);
  if (!of_cpu_.empty() && parts.cpu_ops == nullptr) throw Error("extents are to be updated on the CPU without its ops");
  if (of_cpu_.empty() && !parts.state.uses_ring()) return;
  ring_queue_ = parts.device.create_compute_queue();
  marks_queue_ = parts.device.create_compute_queue();
  cpu_queue_ = make_host_device()->create_compute_queue();
}

void Optimizer::update(int unit, const UpdateNumbers& numbers) {
  prepare(unit, numbers);
  const Trace::UpdateMarks marks = parts_.trace != nullptr ? parts_.trace->update(unit) : Trace::UpdateMarks();
  Event done;
  if (host_) {
    done = start_on_worker(unit, numbers, marks, Part::all, {});
  } else if (!has(unit, Part::on_worker)) {
    marks.begin(*queue_);
    update_part(*queue_, unit, numbers, Part::on_queue, step_state());
    marks.end(*queue_);
    done = queue_->record();
  } else if (!has(unit, Part::on_queue)) {
    done = start_on_worker(unit, numbers, marks, Part::on_worker, {});
  } else {
    marks.begin(*queue_);
    update_part(*queue_, unit, numbers, Part::on_queue, step_state());
    const Event on_queue = queue_->record();
    const Event on_worker = start_on_worker(unit, numbers, marks, Part::on_worker, on_queue);
    done = Event(std::make_shared<BothEvents>(on_queue, on_worker));
  }
  if (parts_.wait_at_once) done.wait();
  parts_.parameters.updating(unit, done);
}

bool Optimizer::has(int unit, Part part) const {
  return std::ranges::any_of(parts_.state.stretches_of(unit), [part](const ShardState::Stretch& stretch) {
    return is_of_worker(stretch) == (part == Part::on_worker);
  });
}

/// \param on_queue  the rest of the unit's update, which has been marked as begun
Event Optimizer::start_on_worker(int unit, const UpdateNumbers& numbers, const Trace::UpdateMarks& marks, Part part,
                                 const std::optional<Event>& on_queue) {
  const auto copies = std::make_shared<Event>();
  worker_->submit([this, unit, numbers, marks, part, on_queue, copies, step = step_state()] {
    Queue& queue = host_ ? *queue_ : *ring_queue_;
    if (!on_queue) marks.begin(queue);
    update_part(queue, unit, numbers, part, step);
    *copies = parts_.state.back_on_device();
    Queue& last = on_queue ? *marks_queue_ : queue;
    if (on_queue) last.wait(*on_queue);
    last.wait(*copies);
    marks.end(last);
    nvme_seconds_ = parts_.state.nvme_seconds();
  });
  return Event(std::make_shared<WithCopies>(worker_->record(), copies));
}

void Optimizer::update_part(Queue& queue, int unit, const UpdateNumbers& numbers, Part part, const StepState& step) {
  const ProfilerRange range(parts_.names.update(unit).c_str());
  try {
    for (const ShardState::Stretch& stretch : parts_.state.stretches_of(unit)) {
      if (part != Part::all && is_of_worker(stretch) != (part == Part::on_worker)) continue;
      if (stretch.on_cpu) {
        update_on_cpu(stretch, numbers, step);
        continue;
      }
      if (parts_.snapshot != nullptr) parts_.snapshot->wait_until_copied(change_of(stretch, step), queue);
      ShardState::Lease lease = parts_.state.acquire(stretch, queue, part_of(step.gradients, stretch));
      const auto start = std::chrono::steady_clock::now();
      update_extent({.queue = queue, .ops = parts_.ops, .extent = stretch.whole, .views = lease.views()}, numbers);
      if (host_) cpu_seconds_ += seconds_since(start);
      else if (stretch.through_ring) count_in_place(stretch);
      // What the ring writes back must be updated.
      if (stretch.through_ring) queue.synchronize();
      lease.release();
    }
    // Moments that are still being written back need not be waited for: the next step's reads find them in order. Weights are
    // read past the ring.
    if (part != Part::on_queue && parts_.state.on_nvme(StateKind::weight)) parts_.state.flush();
  } catch (const IoError& error) {
    throw IoError(fmt::format("optimizer step {}, update of unit {}: {}", numbers.step, unit, error.what()));
  }
}

Optimizer::StepState Optimizer::step_state() const {
  StepState step;
  for (int unit = 0; unit < parts_.zero.map->units(); ++unit) step.gradients.push_back(parts_.gradients.at_rest(unit));
  if (parts_.snapshot != nullptr) step.snapshots = parts_.snapshot->begun();
  return step;
}

StateSnapshot::Change Optimizer::change_of(const ShardState::Stretch& stretch, const StepState& step) const {
  return {.first = stretch.first, .end = parts_.state.end_of(stretch), .begun = step.snapshots};
}

/// All gradients of a step are summed before its first update, so that what comes next may come down already.
void Optimizer::fetch_ahead(const std::vector<GradientAtRest>& gradients) {
  for (; fetched_ < of_cpu_.size() && parts_.state.can_fetch(); ++fetched_)
    parts_.state.fetch(of_cpu_[fetched_], part_of(gradients, of_cpu_[fetched_]));
}

void Optimizer::update_on_cpu(const ShardState::Stretch& stretch, const UpdateNumbers& numbers, const StepState& step) {
  fetch_ahead(step.gradients);
  if (parts_.snapshot != nullptr) parts_.snapshot->wait_until_copied(change_of(stretch, step));
  ShardState::Lease lease = parts_.state.acquire_on_cpu(stretch, part_of(step.gradients, stretch));
  const auto start = std::chrono::steady_clock::now();
  update_extent({.queue = *cpu_queue_, .ops = *parts_.cpu_ops, .extent = stretch.whole, .views = lease.views()},
                numbers);
  cpu_seconds_ += seconds_since(start);
  lease.release();
  if (++updated_ == of_cpu_.size()) fetched_ = updated_ = 0;
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

Event Optimizer::written_back() {
  if (!parts_.state.uses_ring()) return {};
  worker_->submit([this] { parts_.state.flush(); });
  return worker_->record();
}

void Optimizer::finish() {
  wait_for_updates();
  worker_->submit([this] { parts_.state.drain(); });
  worker_->synchronize();
}

}  // namespace spillway::train
