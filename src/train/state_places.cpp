// SPDX-License-Identifier: Apache-2.0
#include "train/state_places.hpp"

#include <fmt/format.h>

#include "core/error.hpp"
#include "core/round_up.hpp"

namespace spillway::train {
namespace {

constexpr std::size_t kRunAlignment = 64;  // in memory

bool starts_unit(const std::vector<Extent>& extents, std::size_t index) {
  return index == 0 || extents[index - 1].unit != extents[index].unit;
}

}  // namespace

std::string StatePlaces::entry_name(StateKind kind, const StateLayout& layout) {
  const bool exact = kind == StateKind::weight && layout.weight_dtype() == DType::f32;
  return exact ? "weight (= master)" : name_of(kind);
}

StatePlaces::StatePlaces(const Zero& zero, const StateLayout& layout, const std::vector<Extent>& extents,
                         bool whole_weights)
    : zero_(zero), layout_(layout), extents_(extents), whole_weights_(whole_weights) {}

/// In elements of what this rank owns of the unit.
Range StatePlaces::run_of(StateKind kind, const Extent& extent) const {
  if (kind != StateKind::weight) return extent.range;
  const Range owned = zero_.owned(extent.unit);
  if (!whole_weights_) return {0, owned.size()};
  return {-owned.begin, zero_.map->unit_elements(extent.unit) - owned.begin};
}

std::vector<std::size_t> StatePlaces::bytes(StateKind kind) const {
  std::vector<std::size_t> bytes;
  for (const Extent& extent : extents_) bytes.push_back(layout_.bytes(kind, extent.unit, extent.range.size()));
  return bytes;
}

std::vector<std::size_t> StatePlaces::memory_bytes(StateKind kind) const {
  std::vector<std::size_t> bytes;
  for (std::size_t i = 0; i < extents_.size(); ++i) {
    const bool has_run = kind != StateKind::weight || starts_unit(extents_, i);
    const std::int64_t elements = has_run ? run_of(kind, extents_[i]).size() : 0;
    bytes.push_back(round_up(layout_.bytes(kind, extents_[i].unit, elements), kRunAlignment));
  }
  return bytes;
}

std::vector<StatePlaces::Place> StatePlaces::places(StateKind kind, const plan::Placement& placement) const {
  const auto number = static_cast<std::size_t>(kind);
  const std::vector<std::size_t> taken = memory_bytes(kind);
  std::vector<Place> places;
  std::array<std::size_t, 2> used{};  // of the memory on the device, and of the host's
  for (std::size_t i = 0; i < extents_.size(); ++i) {
    const Range run = run_of(kind, extents_[i]);
    Place place{
        .tier = placement.tier(number, i), .elements = run.size(), .begin = extents_[i].range.begin - run.begin};
    if (kind == StateKind::weight && !starts_unit(extents_, i)) {
      place.offset = places.back().offset;
      if (place.tier != places.back().tier)
        throw Error(fmt::format("the weights of unit {} are on {} and on {}", extents_[i].unit,
                                plan::name_of(places.back().tier), plan::name_of(place.tier)));
    } else if (place.tier != plan::Tier::nvme) {
      std::size_t& end = used[place.tier == plan::Tier::host ? 1 : 0];
      place.offset = end;
      end += taken[i];
    }
    places.push_back(place);
  }
  return places;
}

}  // namespace spillway::train
