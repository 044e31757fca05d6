// SPDX-License-Identifier: Apache-2.0
#include "offload/state_ring.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

#include <fmt/core.h>

#include "core/error.hpp"
#include "core/round_up.hpp"

namespace spillway::offload {
namespace {

std::vector<std::size_t> largest_of_each_kind(const ExtentStore& extents) {
  std::vector<std::size_t> largest(extents.kinds(), 0);
  for (std::size_t extent = 0; extent < extents.extents(); ++extent) {
    for (std::size_t kind = 0; kind < largest.size(); ++kind) {
      largest[kind] = std::max(largest[kind], extents.bytes(extent, kind));
    }
  }
  return largest;
}

}  // namespace

StateRing::Lease::Lease(Lease&& other) noexcept : ring_(std::exchange(other.ring_, nullptr)), slot_(other.slot_) {}

StateRing::Lease::~Lease() {
  if (ring_ == nullptr) return;
  StateRing& ring = *ring_;
  try {
    release();
  } catch (...) {
    ring.deferred_error_ = std::current_exception();
  }
}

std::size_t StateRing::Lease::extent() const { return ring_->slots_[slot_].extent; }

std::span<std::byte> StateRing::Lease::state(std::size_t kind) const {
  const Slot& slot = ring_->slots_[slot_];
  return ring_->memory_of(slot, kind).first(ring_->extents_.bytes(slot.extent, kind));
}

void StateRing::Lease::release() {
  StateRing& ring = *std::exchange(ring_, nullptr);
  ring.start_write(ring.slots_[slot_]);
}

std::size_t StateRing::bytes_needed(const ExtentStore& extents, int slots) {
  return bytes_needed(largest_of_each_kind(extents), slots, extents.alignment());
}

std::size_t StateRing::bytes_needed(std::span<const std::size_t> largest, int slots, std::size_t alignment) {
  std::size_t slot_bytes = 0;
  for (const std::size_t bytes : largest) slot_bytes += round_up(bytes, alignment);
  return slot_bytes * static_cast<std::size_t>(slots);
}

StateRing::StateRing(ExtentStore& extents, std::span<std::byte> memory, StateRingOptions options)
    : extents_(extents), options_(options), memory_(memory) {
  if (options.slots < 1) throw Error(fmt::format("a state ring of {} slots", options.slots));
  const std::size_t needed = bytes_needed(extents, options.slots);
  if (memory.size() < needed) {
    throw Error(fmt::format("a state ring of {} slots in {} bytes; {} expected", options.slots, memory.size(), needed));
  }
  if (reinterpret_cast<std::uintptr_t>(memory.data()) % extents.alignment() != 0) {
    throw Error(fmt::format("the memory of a state ring is not on a boundary of {} bytes", extents.alignment()));
  }
  for (const std::size_t bytes : largest_of_each_kind(extents)) {
    kind_offsets_.push_back(slot_bytes_);
    slot_bytes_ += round_up(bytes, extents.alignment());
  }
  slots_.resize(static_cast<std::size_t>(options.slots));
}

bool StateRing::prefetch(std::size_t extent) {
  throw_deferred_error();
  look_at_finished_writes();
  if (const Slot* there = find(extent)) return there->stage == Stage::reading;
  Slot* slot = free_slot();
  if (slot == nullptr) return false;
  start_read(*slot, extent);
  return true;
}

StateRing::Lease StateRing::acquire(std::size_t extent) {
  throw_deferred_error();
  look_at_finished_writes();
  Slot* slot = find(extent);
  if (slot != nullptr && slot->stage == Stage::leased) throw Error(fmt::format("extent {} is leased already", extent));
  // What is on its way to the disk must be there before it can be read again.
  if (slot != nullptr && slot->stage == Stage::writing) finish(*slot);
  if (slot == nullptr || slot->stage == Stage::free) {
    slot = &slot_for_read();
    start_read(*slot, extent);
  }
  try {
    wait_for_transfers(*slot);
  } catch (...) {
    give_up(*slot);
    throw;
  }
  slot->stage = Stage::leased;
  return {*this, static_cast<std::size_t>(slot - slots_.data())};
}

void StateRing::flush() {
  for (Slot& slot : slots_) {
    if (slot.stage != Stage::writing) continue;
    try {
      finish(slot);
    } catch (...) {
      if (!deferred_error_) deferred_error_ = std::current_exception();
    }
  }
  throw_deferred_error();
}

void StateRing::drain() {
  for (const Slot& slot : slots_) {
    if (slot.stage == Stage::leased) throw Error(fmt::format("extent {} is leased; it cannot be drained", slot.extent));
  }
  for (Slot& slot : slots_) {
    try {
      finish(slot);
    } catch (...) {
      if (!deferred_error_) deferred_error_ = std::current_exception();
    }
  }
  throw_deferred_error();
}

void StateRing::start_read(Slot& slot, std::size_t extent) {
  slot.extent = extent;
  slot.stage = Stage::reading;
  try {
    for (std::size_t kind = 0; kind < extents_.kinds(); ++kind) {
      if (extents_.bytes(extent, kind) == 0) continue;
      slot.transfers.push_back(extents_.read(extent, kind, memory_of(slot, kind)));
    }
    if (options_.wait_at_once) wait_for_transfers(slot);
  } catch (...) {
    give_up(slot);
    throw;
  }
}

void StateRing::give_up(Slot& slot) {
  slot.transfers.clear();  // waits
  slot.stage = Stage::free;
}

void StateRing::start_write(Slot& slot) {
  slot.released = ++releases_;
  slot.stage = Stage::writing;
  for (std::size_t kind = 0; kind < extents_.kinds(); ++kind) {
    if (extents_.bytes(slot.extent, kind) == 0) continue;
    slot.transfers.push_back(extents_.write(slot.extent, kind, memory_of(slot, kind)));
  }
  if (options_.wait_at_once) finish(slot);
}

/// Also after a failure the others are waited for: the slot's memory must not be in use any more.
void StateRing::wait_for_transfers(Slot& slot) {
  const auto begin = std::chrono::steady_clock::now();
  std::exception_ptr error;
  for (Completion& transfer : slot.transfers) {
    try {
      transfer.wait();
    } catch (...) {
      if (!error) error = std::current_exception();
    }
  }
  slot.transfers.clear();
  blocked_seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  if (error) std::rethrow_exception(error);
}

void StateRing::finish(Slot& slot) {
  slot.stage = Stage::free;
  wait_for_transfers(slot);
}

void StateRing::look_at_finished_writes() {
  const auto is_ready = [](const Completion& transfer) { return transfer.ready(); };
  for (Slot& slot : slots_) {
    if (slot.stage == Stage::writing && std::ranges::all_of(slot.transfers, is_ready)) finish(slot);
  }
}

void StateRing::throw_deferred_error() {
  if (deferred_error_) std::rethrow_exception(std::exchange(deferred_error_, nullptr));
}

StateRing::Slot* StateRing::find(std::size_t extent) {
  for (Slot& slot : slots_) {
    if (slot.stage != Stage::free && slot.extent == extent) return &slot;
  }
  return nullptr;
}

StateRing::Slot* StateRing::free_slot() {
  for (Slot& slot : slots_) {
    if (slot.stage == Stage::free) return &slot;
  }
  return nullptr;
}

StateRing::Slot& StateRing::slot_for_read() {
  if (Slot* slot = free_slot()) return *slot;
  Slot* oldest = nullptr;
  for (Slot& slot : slots_) {
    if (slot.stage == Stage::writing && (oldest == nullptr || slot.released < oldest->released)) oldest = &slot;
  }
  if (oldest == nullptr) {
    throw Error(fmt::format("no slot of the state ring can come free: all {} are leased or prefetched", slots_.size()));
  }
  finish(*oldest);
  return *oldest;
}

std::span<std::byte> StateRing::memory_of(const Slot& slot, std::size_t kind) const {
  const auto index = static_cast<std::size_t>(&slot - slots_.data());
  return memory_.subspan(index * slot_bytes_ + kind_offsets_[kind], extents_.stored_bytes(slot.extent, kind));
}

}  // namespace spillway::offload
