// SPDX-License-Identifier: Apache-2.0
#include "train/parameters.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "core/error.hpp"
#include "plan/plan.hpp"

namespace spillway::train {

Parameters::Parameters(const Zero& zero, comm::Communicator& communicator, TensorView owned, TensorView gathered,
                       Gradients* gradients)
    : zero_(zero),
      communicator_(communicator),
      gradients_(gradients),
      updated_(static_cast<std::size_t>(zero.map->units())) {
  for (int unit = 0; unit < zero_.map->units(); ++unit)
    owned_.push_back(owned.flat(zero_.owned_offset(unit), zero_.owned(unit).size()));
  if (!zero_.sharded()) return;
  const std::int64_t persistent = zero_.map->unit_elements(0);
  const std::int64_t largest = zero_.largest_unit();
  slots_.push_back({.memory = gathered.flat(0, persistent)});
  for (int slot = 0; slot < plan::kGatherSlots; ++slot)
    slots_.push_back({.memory = gathered.flat(persistent + slot * largest, largest)});
}

Parameters::~Parameters() {
  for (const Slot& slot : slots_) slot.gathered.wait_quietly();
}

Parameters::Slot* Parameters::find(int unit) {
  const auto found = std::find_if(slots_.begin(), slots_.end(), [unit](const Slot& slot) { return slot.unit == unit; });
  return found == slots_.end() ? nullptr : &*found;
}

Parameters::Slot* Parameters::place_for(int unit) {
  if (unit == 0) return slots_.data();
  Slot* oldest = nullptr;
  for (std::size_t i = 1; i < slots_.size(); ++i) {
    Slot& slot = slots_[i];
    if (slot.users > 0 || slot.wanted) continue;
    if (oldest == nullptr || slot.last_use < oldest->last_use) oldest = &slot;
  }
  return oldest;
}

void Parameters::gather(Slot& slot, int unit) {
  slot.unit = unit;
  slot.last_use = ++uses_;
  slot.gathered =
      communicator_.all_gather(updated_[static_cast<std::size_t>(unit)], owned_[static_cast<std::size_t>(unit)],
                               slot.memory.flat(0, zero_.map->unit_elements(unit)));
  ++gathers_;
}

void Parameters::prefetch(int unit) {
  if (!zero_.sharded() || find(unit) != nullptr) return;
  Slot* slot = place_for(unit);
  if (slot == nullptr) return;
  gather(*slot, unit);
  slot->wanted = true;
}

void Parameters::acquire(int unit) {
  if (!zero_.sharded()) return updated_[static_cast<std::size_t>(unit)].wait();
  Slot* slot = find(unit);
  if (slot == nullptr) {
    slot = place_for(unit);
    if (slot == nullptr) throw Error(fmt::format("no slot is free to gather unit {}", unit));
    gather(*slot, unit);
  }
  slot->wanted = false;
  slot->last_use = ++uses_;
  ++slot->users;
  slot->gathered.wait();
}

void Parameters::release(int unit) {
  if (!zero_.sharded()) return;
  Slot* slot = find(unit);
  if (slot == nullptr || slot->users == 0) throw Error(fmt::format("unit {} is released but was not acquired", unit));
  --slot->users;
}

void Parameters::wait_for_gather(int unit) {
  if (const Slot* slot = find(unit); slot != nullptr) slot->gathered.wait();
}

ConstTensorView Parameters::weights(int unit) {
  if (!zero_.sharded()) return owned_[static_cast<std::size_t>(unit)];
  Slot* slot = find(unit);
  if (slot == nullptr || slot->users == 0) throw Error(fmt::format("unit {} is used but was not acquired", unit));
  return slot->memory;
}

TensorView Parameters::gradient(int unit) {
  if (gradients_ == nullptr) throw Error("this run has no gradients");
  return gradients_->buffer(unit);
}

TensorView Parameters::owned(int unit) const { return owned_.at(static_cast<std::size_t>(unit)); }

TensorView Parameters::shard(int unit) const {
  const Range range = zero_.shard_in_owned(unit);
  return owned(unit).flat(range.begin, range.size());
}

void Parameters::updating(int unit, Event done) {
  updated_.at(static_cast<std::size_t>(unit)) = std::move(done);
  if (Slot* slot = zero_.sharded() ? find(unit) : nullptr; slot != nullptr) {
    slot->unit = -1;
    slot->wanted = false;
    slot->last_use = 0;
  }
}

}  // namespace spillway::train
