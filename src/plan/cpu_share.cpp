// SPDX-License-Identifier: Apache-2.0
#include "plan/cpu_share.hpp"

#include <algorithm>

#include "core/round_up.hpp"

namespace spillway::plan {
namespace {

constexpr int kShares = 16;

/// Masters and moments: what the optimizer keeps, and neither the weight nor the gradient.
std::size_t end_of_state(const JobFacts& job) { return std::min(job.kinds.size(), kGradientKind); }

bool has_state(const JobFacts& job, std::size_t extent) {
  for (std::size_t kind = kMasterKind; kind < end_of_state(job); ++kind)
    if (job.kinds[kind].bytes[extent] > 0) return true;
  return false;
}

/// Whether any of it lies outside the device, or on nvme.
bool is_outside(const JobFacts& job, const Placement& placement, std::size_t extent) {
  for (std::size_t kind = kMasterKind; kind < end_of_state(job); ++kind)
    if (placement.tier(kind, extent) != Tier::device) return true;
  return false;
}

bool is_on_nvme(const JobFacts& job, const Placement& placement, std::size_t extent) {
  for (std::size_t kind = kMasterKind; kind < end_of_state(job); ++kind)
    if (placement.tier(kind, extent) == Tier::nvme) return true;
  return false;
}

/// Moments that stay on the device would cross the link both ways for the CPU.
bool may_be_on_cpu(const JobFacts& job, std::size_t extent) {
  for (std::size_t kind = kMasterKind + 1; kind < end_of_state(job); ++kind)
    if (job.kinds[kind].wish == Tier::device && job.kinds[kind].bytes[extent] > 0) return false;
  return has_state(job, extent);
}

/// The share's extents from `first` on, of those that are outside the device without one.
std::vector<bool> chosen_from(std::size_t first, const JobFacts& job, const Placement& without, const CpuShare& share) {
  std::vector<bool> on_cpu(job.extent_units.size(), false);
  double due = 1.0 - share.of_host;  // a small share is one extent
  for (std::size_t extent = first; extent < on_cpu.size(); ++extent) {
    if (!may_be_on_cpu(job, extent) || !is_outside(job, without, extent)) continue;
    if (share.of_nvme && is_on_nvme(job, without, extent)) {
      on_cpu[extent] = true;
      continue;
    }
    due += share.of_host;
    on_cpu[extent] = share.of_host > 0.0 && due >= 1.0;
    if (on_cpu[extent]) due -= 1.0;
  }
  return on_cpu;
}

bool any(const std::vector<bool>& extents) { return std::ranges::find(extents, true) != extents.end(); }

}  // namespace

CpuShare usual_cpu_share(const JobFacts& job) {
  constexpr double kSplit = 0.25;
  if (!job.gpu.present || !job.training) return {};
  switch (job.cpu_update.who) {
    case UpdateOn::gpu: break;
    case UpdateOn::automatic: return {.of_host = 0.0, .of_nvme = true};
    case UpdateOn::cpu: return {.of_host = 1.0, .of_nvme = true};
    case UpdateOn::split: return {.of_host = kSplit, .of_nvme = true};
  }
  return {};
}

std::vector<CpuShare> cpu_shares(const JobFacts& job) {
  const CpuShare usual = usual_cpu_share(job);
  const bool tries = job.cpu_update.who == UpdateOn::automatic || job.cpu_update.who == UpdateOn::split;
  if (!usual.of_nvme || !tries) return {usual};
  const bool all = job.cpu_update.who == UpdateOn::automatic;
  std::vector<CpuShare> shares;
  for (int share = all ? 0 : 1; share <= (all ? kShares : kShares - 1); ++share)
    shares.push_back({.of_host = static_cast<double>(share) / kShares, .of_nvme = true});
  return shares;
}

Placement place_shared(const JobFacts& job, Room room, const CpuShare& share) {
  const Placement without = place_nearest(job, room);
  if (share == CpuShare{}) return without;
  const std::size_t extents = job.extent_units.size();
  std::size_t first = 0;  // outside
  while (first < extents && !is_outside(job, without, first)) ++first;
  if (!any(chosen_from(first, job, without, share))) return without;
  const auto place_from = [&](std::size_t from) {
    return place_nearest(job, room, chosen_from(from, job, without, share));
  };
  // The CPU's masters leave room on the device: the most extents that have all of theirs there then.
  const auto fits = [&](std::size_t from) {
    const Placement placement = place_from(from);
    for (std::size_t extent = first; extent < from; ++extent)
      if (is_outside(job, placement, extent)) return false;
    return true;
  };
  std::size_t from = first, too_far = extents + 1;
  while (too_far - from > 1) {
    const std::size_t middle = from + (too_far - from) / 2;
    (fits(middle) ? from : too_far) = middle;
  }
  Placement placement = place_from(from);
  // What is sent to nvme now is the CPU's too, which may send more.
  for (bool more = share.of_nvme; more;) {
    more = false;
    std::vector<bool> on_cpu = placement.on_cpu;
    for (std::size_t extent = 0; extent < extents; ++extent) {
      if (on_cpu[extent] || !may_be_on_cpu(job, extent) || !is_on_nvme(job, placement, extent)) continue;
      on_cpu[extent] = more = true;
    }
    if (more) placement = place_nearest(job, room, on_cpu);
  }
  if (!any(placement.on_cpu)) placement.on_cpu.clear();
  return placement;
}

std::vector<std::size_t> cpu_ring_offsets(const JobFacts& job, const Placement& placement) {
  constexpr std::size_t kBoundary = 256;  // what copies of a GPU like
  std::vector<std::size_t> ends = {0};
  for (std::size_t kind = 0; kind < placement.tiers.size(); ++kind) {
    std::size_t largest = 0;
    for (std::size_t extent = 0; extent < placement.on_cpu.size(); ++extent)
      if (placement.on_cpu[extent] && placement.tier(kind, extent) == Tier::device)
        largest = std::max(largest, job.kinds[kind].bytes[extent]);
    ends.push_back(ends.back() + round_up(largest, kBoundary));
  }
  // There are places even for extents of which all is in host memory already.
  if (!placement.on_cpu.empty()) ends.back() = std::max(ends.back(), kBoundary);
  return ends;
}

std::size_t cpu_ring_bytes(const JobFacts& job, const Placement& placement) {
  const auto extents = static_cast<std::size_t>(std::ranges::count(placement.on_cpu, true));
  if (extents == 0) return 0;
  return std::min(extents, job.cpu_update.places) * cpu_ring_offsets(job, placement).back();
}

}  // namespace spillway::plan
