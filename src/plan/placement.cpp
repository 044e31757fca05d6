// SPDX-License-Identifier: Apache-2.0
#include "plan/placement.hpp"

#include <algorithm>
#include <set>

#include "core/round_up.hpp"
#include "plan/cpu_share.hpp"
#include "plan/plan.hpp"

namespace spillway::plan {
namespace {

/// Kinds that move together, those that stay longest first.
std::vector<std::vector<std::size_t>> kinds_to_place(const JobFacts& job) {
  std::set<int> numbers;
  for (const KindFacts& kind : job.kinds)
    if (!kind.wish && kind.leaves > 0) numbers.insert(kind.leaves);
  std::vector<std::vector<std::size_t>> together;
  for (const int number : numbers) {
    std::vector<std::size_t>& kinds = together.emplace_back();
    for (std::size_t kind = 0; kind < job.kinds.size(); ++kind)
      if (!job.kinds[kind].wish && job.kinds[kind].leaves == number) kinds.push_back(kind);
  }
  return together;
}

/// What a tier has left. Taking from the device takes from the host too where they are one memory.
class Rooms {
 public:
  explicit Rooms(Room room) : room_(room) {}

  bool take(Tier tier, std::size_t bytes) {
    if (tier == Tier::nvme) return true;  // the last resort: that it may not fit is for others to say
    if (tier == Tier::device && bytes > room_.device) return false;
    const bool from_host = tier == Tier::host || room_.shared;
    if (from_host && bytes > room_.host) return false;
    if (tier == Tier::device) room_.device -= bytes;
    if (from_host) room_.host -= bytes;
    return true;
  }

 private:
  Room room_;
};

/// The extent after those that go together with this one.
std::size_t end_of_part(const JobFacts& job, std::size_t extent, bool whole_units) {
  std::size_t end = extent + 1;
  while (whole_units && end < job.extent_units.size() && job.extent_units[end] == job.extent_units[extent]) ++end;
  return end;
}

Placement place(const JobFacts& job, Room room, const std::vector<bool>& on_cpu) {
  constexpr Tier kOutward[] = {Tier::device, Tier::host, Tier::nvme};
  Placement placement = Placement::wished(job);
  placement.on_cpu = on_cpu;
  Rooms rooms(room);
  for (const std::vector<std::size_t>& kinds : kinds_to_place(job)) {
    const bool whole_units = job.kinds[kinds.front()].whole_units;
    const Tier farthest = job.kinds[kinds.front()].farthest;
    // Never nearer than the extent before, though a smaller one might fit: what is far is the end of a kind.
    const Tier *of_gpu = kOutward, *of_cpu = kOutward + 1;
    for (std::size_t first = 0, end = 0; first < job.extent_units.size(); first = end) {
      end = end_of_part(job, first, whole_units);
      std::size_t bytes = 0;
      for (const std::size_t kind : kinds)
        for (std::size_t extent = first; extent < end; ++extent) bytes += job.kinds[kind].memory_bytes[extent];
      if (bytes == 0) continue;
      if (whole_units && job.program.units[static_cast<std::size_t>(job.extent_units[first])].persistent)
        continue;  // in a place of its own it would take as much
      const Tier*& tier = !whole_units && placement.updated_on_cpu(first) ? of_cpu : of_gpu;
      while (!rooms.take(*tier, bytes) && *tier != farthest) ++tier;
      for (const std::size_t kind : kinds)
        for (std::size_t extent = first; extent < end; ++extent)
          if (job.kinds[kind].bytes[extent] > 0) placement.tiers[kind][extent] = *tier;
    }
  }
  return placement;
}

}  // namespace

bool KindFacts::exists() const noexcept {
  return std::ranges::any_of(bytes, [](std::size_t of_extent) { return of_extent > 0; });
}

Placement Placement::wished(const JobFacts& job) {
  Placement placement;
  for (const KindFacts& kind : job.kinds) {
    std::vector<Tier>& tiers = placement.tiers.emplace_back(job.extent_units.size(), Tier::device);
    for (std::size_t extent = 0; extent < tiers.size(); ++extent)
      if (kind.bytes[extent] > 0) tiers[extent] = kind.wish.value_or(Tier::device);
  }
  return placement;
}

bool Placement::uses(std::size_t kind, Tier tier) const {
  return std::ranges::find(tiers[kind], tier) != tiers[kind].end();
}

bool Placement::in_one_memory(std::size_t kind, std::size_t first, std::size_t last) const {
  if (first == last) return true;
  const Tier tier = tiers[kind][first];
  if (tier == Tier::nvme) return false;
  for (std::size_t extent = first; extent < last; ++extent)
    if (tiers[kind][extent] != tier) return false;
  return true;
}

std::size_t Placement::bytes(const JobFacts& job, std::size_t kind, Tier tier) const {
  std::size_t sum = 0;
  for (std::size_t extent = 0; extent < tiers[kind].size(); ++extent) {
    if (tiers[kind][extent] != tier) continue;
    sum += tier == Tier::nvme ? round_up(job.kinds[kind].bytes[extent], job.store_alignment)
                              : job.kinds[kind].memory_bytes[extent];
  }
  return sum;
}

std::size_t Placement::unit_bytes(const JobFacts& job, std::size_t kind, int unit, Tier tier) const {
  std::size_t sum = 0;
  for (std::size_t extent = 0; extent < tiers[kind].size(); ++extent)
    if (job.extent_units[extent] == unit && tiers[kind][extent] == tier) sum += job.kinds[kind].bytes[extent];
  return sum;
}

std::size_t Placement::bytes_outside(const JobFacts& job) const {
  std::size_t sum = 0;
  for (std::size_t kind = 0; kind < tiers.size(); ++kind)
    for (std::size_t extent = 0; extent < tiers[kind].size(); ++extent)
      if (tiers[kind][extent] != Tier::device) sum += job.kinds[kind].bytes[extent];
  return sum;
}

std::size_t Placement::ring_bytes(const JobFacts& job) const {
  std::size_t slot = 0;
  for (std::size_t kind = 0; kind < tiers.size(); ++kind) {
    std::size_t largest = 0;
    for (std::size_t extent = 0; extent < tiers[kind].size(); ++extent)
      if (tiers[kind][extent] == Tier::nvme) largest = std::max(largest, job.kinds[kind].bytes[extent]);
    slot += round_up(largest, job.store_alignment);
  }
  return slot * job.ring_slots;
}

bool Placement::passes_link(const JobFacts& job, std::size_t extent) const {
  if (updated_on_cpu(extent)) return false;
  if (!job.program.units[static_cast<std::size_t>(job.extent_units[extent])].trainable) return false;
  bool host = false;
  for (std::size_t kind = 0; kind < tiers.size(); ++kind) {
    if (job.kinds[kind].bytes[extent] == 0) continue;
    if (tiers[kind][extent] == Tier::nvme) return false;
    host = host || tiers[kind][extent] == Tier::host;
  }
  return host && job.gpu.present && job.training;
}

std::vector<std::size_t> Placement::link_offsets(const JobFacts& job) const {
  constexpr std::size_t kBoundary = 256;  // of device memory
  std::vector<std::size_t> ends = {0};
  for (std::size_t kind = 0; kind < tiers.size(); ++kind) {
    std::size_t largest = 0;
    for (std::size_t extent = 0; extent < tiers[kind].size(); ++extent)
      if (tiers[kind][extent] == Tier::host && passes_link(job, extent))
        largest = std::max(largest, job.kinds[kind].bytes[extent]);
    ends.push_back(ends.back() + round_up(largest, kBoundary));
  }
  return ends;
}

std::size_t Placement::page_table_bytes(const JobFacts& job) const {
  std::size_t pinned = ring_bytes(job) + cpu_ring_bytes(job, *this);
  for (std::size_t kind = 0; kind < job.kinds.size(); ++kind) pinned += bytes(job, kind, Tier::host);
  return job.gpu.table_bytes(pinned);
}

std::size_t Placement::link_ring_bytes(const JobFacts& job) const {
  std::size_t passing = 0;
  for (std::size_t extent = 0; extent < job.extent_units.size() && passing < job.link_places; ++extent)
    passing += passes_link(job, extent) ? 1 : 0;
  return passing * link_offsets(job).back();
}

std::vector<bool> Placement::streamed_units(const JobFacts& job) const {
  std::vector<bool> streamed(job.program.units.size());
  for (std::size_t extent = 0; extent < job.extent_units.size(); ++extent)
    if (const Tier weight = tiers[kWeightKind][extent];
        weight == Tier::nvme || (weight == Tier::host && job.gpu.present))
      streamed[static_cast<std::size_t>(job.extent_units[extent])] = true;
  return streamed;
}

std::size_t Placement::gathered_bytes(const JobFacts& job) const {
  const std::vector<bool> streamed = streamed_units(job);
  std::size_t own = 0, largest = 0;
  for (std::size_t unit = 0; unit < streamed.size(); ++unit) {
    if (!job.gathers_weights && !streamed[unit]) continue;
    if (job.program.units[unit].persistent) own += job.gathered_bytes[unit];
    else largest = std::max(largest, job.gathered_bytes[unit]);
  }
  return own + kGatherSlots * largest;
}

std::size_t Placement::gradient_slot_bytes(const JobFacts& job) const {
  if (!job.gpu.present || tiers.size() <= kGradientKind) return 0;
  std::vector<std::size_t> units(job.program.units.size());
  for (std::size_t extent = 0; extent < job.extent_units.size(); ++extent)
    if (tiers[kGradientKind][extent] == Tier::host)
      units[static_cast<std::size_t>(job.extent_units[extent])] += job.kinds[kGradientKind].bytes[extent];
  return kGradientSlots * *std::ranges::max_element(units);
}

std::size_t Placement::weight_staging_bytes(const JobFacts& job) const {
  return uses(kWeightKind, Tier::nvme) ? job.weight_staging_bytes : 0;
}

std::size_t Placement::parameter_bytes(const JobFacts& job) const {
  const std::vector<int>& units = job.extent_units;
  for (std::size_t first = 0, last = 0; first < units.size(); first = last) {
    while (last < units.size() && units[last] == units[first]) ++last;
    if (!job.program.units[static_cast<std::size_t>(units[first])].trainable) continue;
    for (const std::size_t kind : {kWeightKind, kMasterKind})
      if (!in_one_memory(kind, first, last)) return job.parameter_bytes;
  }
  return 0;
}

std::size_t movable_bytes(const JobFacts& job) {
  std::size_t sum = 0;
  for (const KindFacts& kind : job.kinds) {
    if (kind.wish || kind.leaves == 0) continue;
    for (std::size_t extent = 0; extent < kind.bytes.size(); ++extent)
      if (!kind.whole_units || !job.program.units[static_cast<std::size_t>(job.extent_units[extent])].persistent)
        sum += kind.memory_bytes[extent];
  }
  return sum;
}

Placement place_nearest(const JobFacts& job, Room room, const std::vector<bool>& on_cpu) {
  const auto on_host = [&](const Placement& placement) {
    return placement.ring_bytes(job) + placement.parameter_bytes(job) + placement.weight_staging_bytes(job) +
           cpu_ring_bytes(job, placement);
  };
  const auto on_device = [&](const Placement& placement) {
    return placement.link_ring_bytes(job) + placement.gathered_bytes(job) + placement.gradient_slot_bytes(job) +
           placement.page_table_bytes(job);
  };
  std::size_t host = 0, device = 0;
  Placement placement = place(job, room, on_cpu);
  // What a placement takes besides can send more outward, and that can make it more: until it is enough.
  while (on_host(placement) > host || on_device(placement) > device) {
    host = std::max(host, on_host(placement));
    device = std::max(device, on_device(placement));
    Room less = room;
    less.host -= std::min(less.host, host + (room.shared ? device : 0));
    less.device -= std::min(less.device, device);
    placement = place(job, less, on_cpu);
  }
  return placement;
}

}  // namespace spillway::plan
