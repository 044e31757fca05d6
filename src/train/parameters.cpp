// SPDX-License-Identifier: Apache-2.0
#include "train/parameters.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "core/error.hpp"
#include "plan/plan.hpp"

namespace spillway::train {

Parameters::Parameters(const Zero& zero, ShardState& state, comm::Communicator& group, TensorView gathered,
                       std::vector<WeightReader*> readers, Gradients* gradients,
                       const std::vector<plan::UnitRole>& units, Queue& queue)
    : zero_(zero),
      state_(state),
      group_(group),
      readers_(std::move(readers)),
      gradients_(gradients),
      queue_(queue),
      updated_(static_cast<std::size_t>(zero.map->units())),
      awaited_(static_cast<std::size_t>(zero.map->units())),
      own_place_(static_cast<std::size_t>(zero.map->units()), -1) {
  // Weights of stage 3 are nowhere whole; otherwise only what is read moves.
  const bool all = gathered && zero_.stage == 3 && zero_.sharded();
  std::int64_t used = 0, largest = 0;
  const auto own = [&](int unit, const TensorView& memory) {
    own_place_[static_cast<std::size_t>(unit)] = static_cast<int>(places_.size());
    places_.push_back({.memory = memory, .own = true});
  };
  for (int unit = 0; unit < zero_.map->units(); ++unit) {
    const std::int64_t elements = zero_.map->unit_elements(unit);
    if (!all && reader_of(unit) == nullptr) {
      own(unit, state_.weights(unit));
      // A rank that has all of it needs nobody's part.
      if (!zero_.sharded()) places_.back().unit = unit;
    } else if (units[static_cast<std::size_t>(unit)].persistent) {
      own(unit, gathered.flat(used, elements));
      used += elements;
    } else {
      largest = std::max(largest, elements);
    }
  }
  if (largest == 0) return;
  for (int slot = 0; slot < plan::kGatherSlots; ++slot)
    places_.push_back({.memory = gathered.flat(used + slot * largest, largest)});
}

Parameters::~Parameters() {
  for (const Place& place : places_) {
    place.read.wait_quietly();
    place.gathered.wait_quietly();
  }
}

Parameters::Place* Parameters::find(int unit) {
  const auto found =
      std::find_if(places_.begin(), places_.end(), [unit](const Place& place) { return place.unit == unit; });
  return found == places_.end() ? nullptr : &*found;
}

Parameters::Place* Parameters::place_for(int unit) {
  if (const int own = own_place_[static_cast<std::size_t>(unit)]; own >= 0)
    return &places_[static_cast<std::size_t>(own)];
  Place* oldest = nullptr;
  for (Place& place : places_) {
    if (place.own || place.users > 0 || place.wanted) continue;
    if (oldest == nullptr || place.last_use < oldest->last_use) oldest = &place;
  }
  return oldest;
}

void Parameters::gather(Place& place, int unit) {
  place.unit = unit;
  place.last_use = ++uses_;
  const TensorView whole = place.memory.flat(0, zero_.map->unit_elements(unit));
  const Range owned = zero_.owned(unit);
  TensorView mine = whole.flat(owned.begin, owned.size());
  const Event before = std::exchange(place.read, updated_[static_cast<std::size_t>(unit)]);
  if (WeightReader* const reader = reader_of(unit))
    place.read = reader->read({place.read, before, place.used}, unit, mine);
  else if (!place.own || place.memory.data() != state_.weights(unit).data()) mine = state_.weights(unit);
  place.gathered = zero_.sharded() ? group_.all_gather(place.read, mine, whole) : place.read;
  place.awaited = false;
  ++gathers_;
}

void Parameters::prefetch(int unit) {
  if (find(unit) != nullptr) return;
  Place* place = place_for(unit);
  if (place == nullptr) return;
  gather(*place, unit);
  place->wanted = true;
}

void Parameters::acquire(int unit) {
  Place* place = find(unit);
  if (place == nullptr) {
    place = place_for(unit);
    if (place == nullptr) throw Error(fmt::format("no place is free to gather unit {}", unit));
    gather(*place, unit);
  }
  place->wanted = false;
  place->last_use = ++uses_;
  ++place->users;
  wait_for_update(unit);
  if (!std::exchange(place->awaited, true)) queue_.wait(place->gathered);
}

void Parameters::wait_for_update(int unit) {
  if (awaited(unit)) return;
  queue_.wait(updated_[static_cast<std::size_t>(unit)]);
  awaited_[static_cast<std::size_t>(unit)] = true;
}

void Parameters::release(int unit) {
  Place* place = find(unit);
  if (place == nullptr || place->users == 0) throw Error(fmt::format("unit {} is released but was not acquired", unit));
  --place->users;
  if (reader_of(unit) != nullptr) place->used = queue_.record();
}

void Parameters::wait_for_read(int unit) {
  const WeightReader* const reader = reader_of(unit);
  if (reader == nullptr || !reader->on_thread(unit)) return;
  if (const Place* place = find(unit); place != nullptr) place->read.wait();
}

bool Parameters::waits_for_copy(int unit) {
  const WeightReader* const reader = reader_of(unit);
  if (reader == nullptr || reader->on_thread(unit)) return false;
  const Place* place = find(unit);
  return place == nullptr || !place->awaited;
}

void Parameters::wait_for_gather(int unit) {
  if (const Place* place = find(unit); place != nullptr) place->gathered.wait();
}

ConstTensorView Parameters::weights(int unit) {
  Place* place = find(unit);
  if (place == nullptr || place->users == 0) throw Error(fmt::format("unit {} is used but was not acquired", unit));
  return place->memory.flat(0, zero_.map->unit_elements(unit));
}

TensorView Parameters::gradient(int unit) {
  if (gradients_ == nullptr) throw Error("this run has no gradients");
  return gradients_->buffer(unit);
}

bool Parameters::overwrites_gradient(int unit) { return gradients_ != nullptr && gradients_->overwrites(unit); }

void Parameters::updating(int unit, Event done) {
  updated_.at(static_cast<std::size_t>(unit)) = std::move(done);
  awaited_.at(static_cast<std::size_t>(unit)) = false;
  Place* place = find(unit);
  // Weights that are whole where they lie, and nobody else's, need no gathering.
  const bool in_place = place != nullptr && reader_of(unit) == nullptr && !zero_.sharded() && place->own;
  if (place == nullptr || in_place) return;
  place->unit = -1;
  place->wanted = false;
  place->last_use = 0;
}

}  // namespace spillway::train
