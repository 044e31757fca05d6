// SPDX-License-Identifier: Apache-2.0
#include "train/gradients.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "core/error.hpp"
#include "plan/plan.hpp"

namespace spillway::train {

Gradients::Gradients(GradientLayout layout, int groups, comm::Communicator& world, comm::Communicator& copies,
                     kernels::ModelOps& ops, Queue& queue, StepClock& clock, TensorView buffers, TensorView grad,
                     TensorView sums, HostGradients* host)
    : layout_(std::move(layout)),
      groups_(groups),
      world_(world),
      copies_(copies),
      ops_(ops),
      queue_(queue),
      clock_(clock),
      host_(host),
      states_(layout_.units.size()) {
  const Zero& zero = *layout_.zero;
  const std::int64_t elements = layout_.buffer_elements();
  const std::byte* const wires = buffers.data() + static_cast<std::size_t>(elements) * sizeof(float);
  std::int64_t buffer = 0, at_rest = 0, summed = 0;
  const auto take_sum = [&](std::int64_t count) {
    summed += count;
    return TensorView(sums.data(), DType::f32, {summed}).flat(summed - count, count);
  };
  const auto add_slot = [&](std::int64_t unit_elements) {
    Slot slot{.memory = TensorView(buffers.data(), DType::f32, {elements}).flat(buffer, unit_elements)};
    if (layout_.reduce != DType::f32)
      slot.wire = TensorView(const_cast<std::byte*>(wires), layout_.reduce, {elements}).flat(buffer, unit_elements);
    buffer += unit_elements;
    if (layout_.partial_elements(groups_ > 1) > 0) slot.partial = take_sum(unit_elements / zero.map->ranks());
    slots_.push_back(std::move(slot));
  };
  for (int unit = 0; unit < zero.map->units(); ++unit) {
    if (!layout_.trainable(unit)) continue;
    State& state = states_[static_cast<std::size_t>(unit)];
    const std::int64_t size = zero.owned(unit).size();
    if (rests_on_host(unit)) {
      if (groups_ > 1 || zero.map->ranks() > 1)
        throw Error(fmt::format(
            "the gradient of unit {} cannot rest in host memory: it is added up over groups or ranks", unit));
      state.owned = host_->at_rest(unit);
    } else {
      state.owned = TensorView(grad.data(), layout_.grad, {layout_.grad_elements()}).flat(at_rest, size);
      at_rest += size;
    }
    if (several(unit) && layout_.grad != DType::f32) state.sum = take_sum(zero.map->shard_elements(unit));
    state.filled = layout_.filled(unit);
    if (!layout_.persistent(unit) && !layout_.in_place(unit)) continue;
    state.own_slot = static_cast<int>(slots_.size());
    if (layout_.persistent(unit)) add_slot(zero.map->unit_elements(unit));
    else slots_.push_back({.memory = state.owned});
  }
  shared_ = slots_.size();
  for (int slot = 0; slot < plan::kGradientSlots; ++slot) add_slot(layout_.largest_unit());
}

Gradients::~Gradients() {
  for (const Slot& slot : slots_) slot.reduced.wait_quietly();
  for (const State& state : states_) state.complete.wait_quietly();
}

void Gradients::begin_step() {
  for (State& state : states_) state.reductions = 0;
}

Gradients::Slot& Gradients::slot_of(int unit) {
  const auto found = std::find_if(slots_.begin(), slots_.end(), [unit](const Slot& slot) { return slot.unit == unit; });
  if (found == slots_.end()) throw Error(fmt::format("unit {} has no gradient buffer now", unit));
  return *found;
}

void Gradients::begin(int unit) {
  auto index = static_cast<std::size_t>(states_[static_cast<std::size_t>(unit)].own_slot);
  if (states_[static_cast<std::size_t>(unit)].own_slot < 0) {
    // A unit that the last group had too keeps its buffer: it must not be in two.
    const auto held = std::find_if(slots_.begin() + static_cast<std::ptrdiff_t>(shared_), slots_.end(),
                                   [unit](const Slot& slot) { return slot.unit == unit; });
    index = held != slots_.end() ? static_cast<std::size_t>(held - slots_.begin()) : shared_ + next_;
    next_ = (index - shared_ + 1) % plan::kGradientSlots;
  }
  Slot& slot = slots_[index];
  complete(slot);
  slot.unit = unit;
  slot.stale = true;
  if (rests_on_host(unit) && layout_.in_place(unit))
    states_[static_cast<std::size_t>(unit)].owned = slot.memory = host_->open(queue_, unit);
}

void Gradients::clear(Slot& slot) {
  if (!slot.stale) return;
  slot.stale = false;
  const StepClock::Span span(clock_, Activity::compute);
  ops_.fill_zero(queue_, slot.memory.flat(0, layout_.zero->map->unit_elements(slot.unit)));
}

TensorView Gradients::buffer(int unit) {
  Slot& slot = slot_of(unit);
  clear(slot);
  return slot.memory;
}

bool Gradients::overwrites(int unit) {
  Slot& slot = slot_of(unit);
  if (!slot.stale || !states_[static_cast<std::size_t>(unit)].filled) return false;
  slot.stale = false;
  return true;
}

TensorView Gradients::piece(int unit) const {
  const Range range = layout_.zero->piece_in_owned(unit);
  return owned(unit).flat(range.begin, range.size());
}

/// Where the sum over ranks goes: to its place at once, unless it must be added to others or rounded after the sum.
TensorView Gradients::target_of(const Slot& slot) const {
  const State& state = states_[static_cast<std::size_t>(slot.unit)];
  const TensorView piece = this->piece(slot.unit);
  if (state.reductions > 1 || (!state.sum && layout_.grad != DType::f32 && layout_.grad != layout_.reduce))
    return slot.partial.flat(0, piece.elements());
  return state.sum ? state.sum : piece;
}

void Gradients::reduce(int unit) {
  Slot& slot = slot_of(unit);
  clear(slot);  // this rank had no samples
  State& state = states_[static_cast<std::size_t>(unit)];
  ++state.reductions;
  const std::int64_t elements = layout_.zero->map->unit_elements(unit);
  TensorView full = slot.memory.flat(0, elements);
  if (layout_.zero->map->ranks() == 1) {
    if (rests_on_host(unit) && !layout_.in_place(unit)) state.owned = host_->open(queue_, unit);
    reduce_alone(slot, full);
    if (rests_on_host(unit)) complete(slot);
    return;
  }
  if (slot.wire) {
    const StepClock::Span span(clock_, Activity::compute);
    ops_.convert(queue_, full, slot.wire.flat(0, elements));
    full = slot.wire.flat(0, elements);
  }
  const TensorView target = target_of(slot);
  slot.reduced = world_.reduce_scatter(queue_.record(), full, target, layout_.zero->pieces);
  if (!several(unit) && target.data() == piece(unit).data()) share(unit, slot.reduced);
}

/// The sum over one rank: rounded to the wire's dtype, as with more ranks, and moved to where the sum goes.
void Gradients::reduce_alone(Slot& slot, ConstTensorView full) {
  const TensorView target = target_of(slot);
  if (target.data() == full.data()) return;  // in place
  const StepClock::Span span(clock_, Activity::compute);
  if (slot.wire && target.dtype() != slot.wire.dtype()) {
    const TensorView wire = slot.wire.flat(0, full.elements());
    ops_.convert(queue_, full, wire);
    full = wire;
  }
  ops_.convert(queue_, full, target);
}

void Gradients::leave(int unit) {
  host_->leave(queue_, unit);
  states_[static_cast<std::size_t>(unit)].owned = host_->at_rest(unit);
}

/// Copies of the state are updated alike: each needs the pieces of the others.
void Gradients::share(int unit, const Event& after) {
  State& state = states_[static_cast<std::size_t>(unit)];
  state.complete = layout_.zero->copies() > 1 ? copies_.all_gather(after, piece(unit), state.owned) : after;
}

void Gradients::complete(Slot& slot) {
  if (slot.unit < 0) return;
  const int unit = std::exchange(slot.unit, -1);
  State& state = states_[static_cast<std::size_t>(unit)];
  {
    const StepClock::Span span(clock_, Activity::collective);
    slot.reduced.wait();
  }
  const TensorView piece = this->piece(unit);
  const bool last = state.reductions == (several(unit) ? groups_ : 1);
  {
    const StepClock::Span span(clock_, Activity::compute);
    const TensorView partial = slot.partial ? slot.partial.flat(0, piece.elements()) : TensorView{};
    const TensorView sum = state.sum ? state.sum : piece;
    if (state.reductions > 1) ops_.add(queue_, partial, sum);
    if (!last) return;
    if (state.sum) ops_.convert(queue_, sum, piece);
    else if (layout_.grad != DType::f32 && layout_.grad != layout_.reduce) ops_.convert(queue_, partial, piece);
    else if (!several(unit)) return;  // reduced to its place, and shared then
  }
  share(unit, queue_.record());
}

void Gradients::finish() {
  for (Slot& slot : slots_) complete(slot);
  const StepClock::Span span(clock_, Activity::collective);
  for (const State& state : states_) state.complete.wait();
}

}  // namespace spillway::train
