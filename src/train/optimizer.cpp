// SPDX-License-Identifier: Apache-2.0
#include "train/optimizer.hpp"

#include <fmt/format.h>

#include "core/error.hpp"
#include "core/profiler_range.hpp"

namespace spillway::train {

Optimizer::Optimizer(const OptimizerParts& parts)
    : parts_(parts), queue_(parts.device.create_compute_queue()), worker_(parts.device.create_worker_queue("update")) {}

void Optimizer::update(int unit, const UpdateNumbers& numbers) {
  prepare(unit, numbers);
  const Trace::UpdateMarks marks = parts_.trace != nullptr ? parts_.trace->update(unit) : Trace::UpdateMarks();
  Event done;
  if (parts_.device.is_host() || parts_.state.uses_ring()) {
    worker_->submit([this, unit, numbers, marks] { update_now(unit, numbers, marks); });
    done = worker_->record();
  } else {
    update_now(unit, numbers, marks);
    done = queue_->record();
  }
  if (parts_.wait_at_once) done.wait();
  parts_.parameters.updating(unit, done);
}

void Optimizer::update_now(int unit, const UpdateNumbers& numbers, const Trace::UpdateMarks& marks) {
  const ProfilerRange range(parts_.names.update(unit).c_str());
  marks.begin(*queue_);
  try {
    for (const std::size_t extent : parts_.state.extents_of(unit)) {
      ShardState::Lease lease = parts_.state.acquire(extent);
      update_extent(parts_.state.extents()[extent], lease.views(), numbers);
      if (parts_.state.uses_ring()) queue_->synchronize();
      lease.release();
    }
    // Moments that are still being written back need not be waited for: the next step's reads find them in order. Weights are
    // read past the ring.
    if (parts_.state.on_nvme(StateKind::weight)) parts_.state.flush();
  } catch (const IoError& error) {
    throw IoError(fmt::format("optimizer step {}, update of unit {}: {}", numbers.step, unit, error.what()));
  }
  marks.end(*queue_);
  nvme_seconds_ = parts_.state.nvme_seconds();
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
