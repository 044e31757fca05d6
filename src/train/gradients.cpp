// SPDX-License-Identifier: Apache-2.0
#include "train/gradients.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "core/error.hpp"
#include "plan/plan.hpp"

namespace spillway::train {

Gradients::Gradients(const Zero& zero, comm::Communicator& communicator, kernels::ModelOps& ops, Queue& queue,
                     StepClock& clock, TensorView buffers, TensorView shards, bool several_groups)
    : zero_(zero),
      communicator_(communicator),
      ops_(ops),
      queue_(queue),
      clock_(clock),
      summed_(static_cast<std::size_t>(zero.map->units()), false) {
  const std::int64_t persistent = zero_.map->unit_elements(0);
  const std::int64_t largest = zero_.largest_unit();
  std::int64_t largest_owned = 0;
  for (int unit = 0; unit < zero_.map->units(); ++unit) {
    owned_.push_back(shards.flat(zero_.owned_offset(unit), zero_.owned(unit).size()));
    largest_owned = std::max(largest_owned, zero_.owned(unit).size());
  }
  slots_.push_back({.memory = buffers.flat(0, persistent)});
  for (int slot = 0; slot < plan::kGradientSlots; ++slot) {
    slots_.push_back({.memory = buffers.flat(persistent + slot * largest, largest)});
    if (several_groups)
      slots_.back().partial = shards.flat(zero_.owned_elements() + slot * largest_owned, largest_owned);
  }
}

Gradients::~Gradients() {
  for (const Slot& slot : slots_) slot.reduced.wait_quietly();
}

void Gradients::begin_step() { std::fill(summed_.begin(), summed_.end(), false); }

Gradients::Slot& Gradients::slot_of(int unit) {
  const auto found = std::find_if(slots_.begin(), slots_.end(), [unit](const Slot& slot) { return slot.unit == unit; });
  if (found == slots_.end()) throw Error(fmt::format("unit {} has no gradient buffer now", unit));
  return *found;
}

void Gradients::begin(int unit) {
  if (unit != 0) next_ = 1 + next_ % plan::kGradientSlots;
  Slot& slot = slots_[unit == 0 ? 0 : next_];
  complete(slot);
  slot.unit = unit;
  const StepClock::Span span(clock_, Activity::compute);
  ops_.fill_zero(queue_, slot.memory.flat(0, zero_.map->unit_elements(unit)));
}

TensorView Gradients::buffer(int unit) { return slot_of(unit).memory; }

void Gradients::reduce(int unit) {
  Slot& slot = slot_of(unit);
  const auto index = static_cast<std::size_t>(unit);
  slot.adding = summed_[index];
  summed_[index] = true;
  const TensorView target = slot.adding ? slot.partial.flat(0, owned_[index].elements()) : owned_[index];
  const Range shard = zero_.shard_in_owned(unit);
  const TensorView piece = target.flat(shard.begin, shard.size());
  slot.reduced =
      communicator_.reduce_scatter(queue_.record(), slot.memory.flat(0, zero_.map->unit_elements(unit)), piece);
  if (!zero_.sharded()) slot.reduced = communicator_.all_gather(slot.reduced, piece, target);
}

void Gradients::complete(Slot& slot) {
  if (slot.unit < 0) return;
  {
    const StepClock::Span span(clock_, Activity::collective);
    slot.reduced.wait();
  }
  if (slot.adding) {
    const StepClock::Span span(clock_, Activity::compute);
    const TensorView& sum = owned_[static_cast<std::size_t>(slot.unit)];
    ops_.add(queue_, slot.partial.flat(0, sum.elements()), sum);
  }
  slot.adding = false;
  slot.unit = -1;
}

void Gradients::finish() {
  for (Slot& slot : slots_) complete(slot);
}

TensorView Gradients::shard(int unit) const {
  const Range range = zero_.shard_in_owned(unit);
  return owned(unit).flat(range.begin, range.size());
}

}  // namespace spillway::train
