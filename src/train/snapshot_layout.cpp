// SPDX-License-Identifier: Apache-2.0
#include "train/snapshot_layout.hpp"

#include <algorithm>
#include <utility>

#include "core/round_up.hpp"
#include "plan/job_ledger.hpp"

namespace spillway::train {
namespace {

// What files are read into must begin on this, at most.
constexpr std::size_t kAlignment = 4096;

}  // namespace

SnapshotLayout::SnapshotLayout(const Zero& zero, StateLayout state, const std::vector<Extent>& extents,
                               const plan::Placement& placement)
    : state_(std::move(state)) {
  for (std::size_t first = 0, end = 0; first < extents.size(); first = end) {
    const int unit = extents[first].unit;
    while (end < extents.size() && extents[end].unit == unit) ++end;
    const Range piece = zero.piece_in_owned(unit);
    for (const StateKind kind : {StateKind::master, StateKind::exp_avg, StateKind::exp_avg_sq})
      for (std::size_t extent = first; extent < end; ++extent) {
        const Range& whole = extents[extent].range;
        add(kind, extent, extents[extent], {std::max(whole.begin, piece.begin), std::min(whole.end, piece.end)},
            placement);
      }
  }
}

void SnapshotLayout::add(StateKind kind, std::size_t extent, const Extent& whole, Range range,
                         const plan::Placement& placement) {
  if (range.size() <= 0) return;
  Part part{.kind = kind, .unit = whole.unit, .extent = extent, .range = range};
  std::vector<Run> runs;
  const auto add_run = [&](StateKind stored) {
    const bool in_file = placement.tier(static_cast<std::size_t>(stored), extent) == plan::Tier::nvme;
    const Range elements = in_file ? whole.range : range;
    const std::size_t bytes = state_.bytes(stored, whole.unit, elements.size());
    if (bytes == 0) return;
    runs.push_back({.kind = stored, .offset = part.bytes, .bytes = bytes, .elements = elements});
    part.bytes += round_up(bytes, kAlignment);
  };
  if (kind == StateKind::master) add_run(StateKind::weight);
  add_run(kind);
  if (runs.empty()) return;  // a frozen unit's moments
  whole_bytes_ += part.bytes;
  largest_part_ = std::max(largest_part_, part.bytes);
  parts_.push_back(part);
  runs_.push_back(std::move(runs));
}

SnapshotLayout snapshot_layout(const Job& job) {
  return {job.zero, *job.state, make_extents(job.zero, job.extent_elements), job.plan.placement};
}

std::size_t snapshot_factor_bytes(const Job& job) {
  return job.adafactor ? round_up(job.adafactor->mean_bytes(), kAlignment) : 0;
}

Saving saving_of(const Job& job) {
  const std::size_t bytes = job.plan.ledger.bytes(plan::entry::kSnapshot);
  if (bytes == 0) return Saving::blocking;
  return bytes < snapshot_layout(job).whole_bytes() + snapshot_factor_bytes(job) ? Saving::in_pieces : Saving::whole;
}

void add_snapshot(Job& job, std::size_t room) {
  const CheckpointOptions& options = job.options.checkpoint;
  if (job.purpose != Purpose::train || !options.async || options.save_steps == StepInterval(0)) return;
  const SnapshotLayout layout = snapshot_layout(job);
  const std::size_t factors = snapshot_factor_bytes(job);
  const std::size_t whole = layout.whole_bytes() + factors;
  const std::size_t least = std::min(layout.least_bytes() + factors, whole);
  if (room < least) return;
  // Pieces leave by the page cache, which is in the host's budget too: half of the room is its.
  const std::size_t bytes = room >= whole ? whole : std::max(least, room / 2 / kAlignment * kAlignment);
  job.plan.ledger.add({.name = plan::entry::kSnapshot, .tier = plan::Tier::host, .bytes = bytes});
}

std::size_t room_for_snapshot(const Job& job) {
  const plan::Ledger& ledger = job.plan.ledger;
  const std::size_t taken =
      ledger.peak(plan::Tier::host) + (job.facts.gpu.present ? 0 : ledger.peak(plan::Tier::device));
  return job.budgets.host - std::min(job.budgets.host, taken);
}

}  // namespace spillway::train
