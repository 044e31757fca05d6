// SPDX-License-Identifier: Apache-2.0
#include "train/optimizer.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

#include <fmt/format.h>

#include "core/device_meters.hpp"
#include "core/error.hpp"
#include "core/profiler_range.hpp"
#include "train/update_events.hpp"

namespace spillway::train {

namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

GradientAtRest part_of(const std::vector<GradientAtRest>& gradients, const ShardState::Stretch& stretch) {
  const GradientAtRest& whole = gradients[static_cast<std::size_t>(stretch.whole.unit)];
  return {.values = whole.values.flat(stretch.whole.range.begin, stretch.whole.range.size()), .there = whole.there};
}

constexpr int kAtOnce = 4;  // units that are started before the next forward pass

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
  cpu_queue_ = make_host_device()->create_compute_queue();
}

void Optimizer::update(int unit, const UpdateNumbers& numbers) {
  if (std::exchange(step_, numbers.step) != numbers.step) {
    start_all();
    begun_ = 0;
  }
  prepare(unit, numbers);
  const Trace::UpdateMarks marks = parts_.trace != nullptr ? parts_.trace->update(unit) : Trace::UpdateMarks();
  const bool on_queue = !host_ && has(unit, Part::on_queue);
  Event on_worker;
  if (host_ || has(unit, Part::on_worker))
    on_worker =
        give_worker(unit, numbers, on_queue ? Trace::UpdateMarks() : marks, host_ ? Part::all : Part::on_worker);
  if (!on_queue) {
    if (parts_.wait_at_once) on_worker.wait();
    return parts_.parameters.updating(unit, on_worker);
  }
  parts_.parameters.updating(unit, not_started(unit));
  waiting_.push_back({.unit = unit, .numbers = numbers, .step = step_state(), .marks = marks, .on_worker = on_worker});
  if (!parts_.wait_at_once) {
    if (waiting_.size() == 1 && begun_++ < kAtOnce) (void)start_first(false);
    return;
  }
  start_until(unit);
  parts_.parameters.updated(unit).wait();
}

void Optimizer::start_some() {
  constexpr int kSome = 3;  // of a unit the forward pass takes longer than the update, and both should be started ahead
  for (int unit = 0; unit < kSome && !waiting_.empty(); ++unit)
    if (!start_first(false)) return;
}

void Optimizer::start_until(int unit) {
  while (std::ranges::find(waiting_, unit, &Waiting::unit) != waiting_.end()) (void)start_first(true);
}

void Optimizer::start_all() {
  while (!waiting_.empty()) (void)start_first(true);
}

/// Gives the queue what is left of the first unit that waits. \return whether it has all of it now
bool Optimizer::start_first(bool may_block) {
  Waiting& first = waiting_.front();
  const ProfilerRange range(parts_.names.update(first.unit).c_str());
  const std::vector<ShardState::Stretch>& stretches = parts_.state.stretches_of(first.unit);
  for (; first.next < stretches.size(); ++first.next) {
    const ShardState::Stretch& stretch = stretches[first.next];
    if (is_of_worker(stretch)) continue;
    // Copies wait here and not in the device's queues: those have an end, at which the driver lets no other thread in either.
    if (stretch.over_link && !parts_.state.link_has_room()) {
      if (!may_block) return false;
      parts_.state.wait_for_link_room();
    }
    if (!std::exchange(first.begun, true)) first.marks.begin(*queue_);
    update_stretch(*queue_, stretch, first.numbers, first.step);
  }
  first.marks.end(*queue_);
  const Event on_queue = queue_->record();
  const bool split = has(first.unit, Part::on_worker);
  parts_.parameters.updating(first.unit, split ? both(on_queue, first.on_worker) : on_queue);
  waiting_.pop_front();
  return true;
}

bool Optimizer::has(int unit, Part part) const {
  return std::ranges::any_of(parts_.state.stretches_of(unit), [part](const ShardState::Stretch& stretch) {
    return is_of_worker(stretch) == (part == Part::on_worker);
  });
}

Event Optimizer::give_worker(int unit, const UpdateNumbers& numbers, const Trace::UpdateMarks& marks, Part part) {
  const auto copies = std::make_shared<Event>();
  worker_->submit([this, unit, numbers, marks, part, copies, step = step_state()] {
    Queue& queue = host_ ? *queue_ : *ring_queue_;
    marks.begin(queue);
    update_on_worker(queue, unit, numbers, part, step);
    *copies = parts_.state.back_on_device();
    if (parts_.trace != nullptr) queue.wait(*copies);
    marks.end(queue);
    nvme_seconds_ = parts_.state.nvme_seconds();
  });
  return with_copies(worker_->record(), copies);
}

void Optimizer::update_on_worker(Queue& queue, int unit, const UpdateNumbers& numbers, Part part,
                                 const StepState& step) {
  const ProfilerRange range(parts_.names.update(unit).c_str());
  try {
    for (const ShardState::Stretch& stretch : parts_.state.stretches_of(unit)) {
      if (part != Part::all && !is_of_worker(stretch)) continue;
      if (stretch.on_cpu) update_on_cpu(stretch, numbers, step);
      else update_stretch(queue, stretch, numbers, step);
    }
    // Moments that are still being written back need not be waited for: the next step's reads find them in order. Weights are
    // read past the ring.
    if (parts_.state.on_nvme(StateKind::weight)) parts_.state.flush();
  } catch (const IoError& error) {
    throw IoError(fmt::format("optimizer step {}, update of unit {}: {}", numbers.step, unit, error.what()));
  }
}

/// Of all that the CPU does not update beside a GPU.
void Optimizer::update_stretch(Queue& queue, const ShardState::Stretch& stretch, const UpdateNumbers& numbers,
                               const StepState& step) {
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
  start_all();
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
