// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <span>
#include <vector>

#include "offload/block_store.hpp"
#include "offload/extent_store.hpp"

namespace spillway::offload {

struct StateRingOptions {
  int slots = 4;              // extents in memory at once; 3 let one be read, one updated and one written back
  bool wait_at_once = false;  // for measurements: every read and write is waited for where it starts, nothing overlaps
};

/// The ring through which extents on NVMe are updated: each of its slots holds all kinds of one extent, and while one
/// extent is updated by the caller, others are being read or written back. A slot is reused only when its extent is
/// written back; nothing is kept, so every acquired extent is read once and written once. Never computes. One thread at
/// a time.
class StateRing {
 public:
  /// An extent in memory, the caller's to change. Written back when released or destroyed, changed or not. The ring
  /// outlives it.
  class Lease {
   public:
    Lease(Lease&& other) noexcept;
    Lease& operator=(Lease&&) = delete;
    /// As release(); an error is thrown by the ring's next call.
    ~Lease();
    [[nodiscard]] std::size_t extent() const;
    /// The bytes of a kind: ExtentStore::bytes() long, on the store's alignment. Valid until the release.
    [[nodiscard]] std::span<std::byte> state(std::size_t kind) const;
    /// Starts the write-back and gives the memory up. Blocks only while the store's queue is full. \throws IoError
    void release();

   private:
    friend class StateRing;
    Lease(StateRing& ring, std::size_t slot) : ring_(&ring), slot_(slot) {}
    StateRing* ring_;
    std::size_t slot_;
  };

  /// Bytes of memory that a ring over `extents` needs: slots times the sum, over the kinds, of the largest extent
  /// rounded up to the store's alignment.
  [[nodiscard]] static std::size_t bytes_needed(const ExtentStore& extents, int slots);
  /// The same before there is a store. \param largest the bytes of the largest extent of each kind
  [[nodiscard]] static std::size_t bytes_needed(std::span<const std::size_t> largest, int slots, std::size_t alignment);

  /// \param extents outlives the ring
  /// \param memory  bytes_needed() or more, on the store's alignment; outlives the ring
  /// \throws Error if the memory is too small or not aligned, or there are no slots
  StateRing(ExtentStore& extents, std::span<std::byte> memory, StateRingOptions options);
  /// Waits for what is under way.
  ~StateRing() = default;
  StateRing(const StateRing&) = delete;
  StateRing& operator=(const StateRing&) = delete;

  /// Starts to read an extent if a slot is free. Blocks only while the store's queue is full. Returns whether the
  /// extent is on its way: false if no slot is free, or if the extent is leased or still being written back.
  /// \throws IoError of an earlier write-back
  bool prefetch(std::size_t extent);
  /// An extent's state, read now if it was not prefetched. Blocks until it is there, or first for a slot to be written
  /// back.
  /// \throws IoError if it cannot be read or its checksum differs, or of an earlier write-back
  /// \throws Error if it is leased already, or no slot can come free: all are leased or prefetched
  [[nodiscard]] Lease acquire(std::size_t extent);
  /// Blocks until everything that was released is written back; what is being read stays. \throws IoError of a write-back
  void flush();
  /// Blocks until everything is written back; prefetched extents are dropped, all slots are free then.
  /// \throws IoError of a write-back, Error if an extent is leased
  void drain();
  /// Seconds that callers were blocked so far, for reads (with their checksums), write-backs and free slots.
  [[nodiscard]] double blocked_seconds() const noexcept { return blocked_seconds_; }

 private:
  enum class Stage { free, reading, leased, writing };
  struct Slot {
    Stage stage = Stage::free;
    std::size_t extent = 0;
    std::uint64_t released = 0;  // when its write-back started, counted in releases
    std::vector<Completion> transfers;
  };

  void start_read(Slot& slot, std::size_t extent);
  void start_write(Slot& slot);
  void give_up(Slot& slot);
  void wait_for_transfers(Slot& slot);
  void finish(Slot& slot);
  void look_at_finished_writes();
  void throw_deferred_error();
  [[nodiscard]] Slot* find(std::size_t extent);
  [[nodiscard]] Slot* free_slot();
  [[nodiscard]] Slot& slot_for_read();
  [[nodiscard]] std::span<std::byte> memory_of(const Slot& slot, std::size_t kind) const;

  ExtentStore& extents_;
  const StateRingOptions options_;
  std::span<std::byte> memory_;
  std::vector<std::size_t> kind_offsets_;  // within a slot's memory
  std::size_t slot_bytes_ = 0;
  std::vector<Slot> slots_;
  std::uint64_t releases_ = 0;
  double blocked_seconds_ = 0;
  std::exception_ptr deferred_error_;
};

}  // namespace spillway::offload
