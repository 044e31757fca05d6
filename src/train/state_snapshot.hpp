// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "core/device.hpp"
#include "kernels/optimizer_ops.hpp"
#include "train/snapshot_layout.hpp"

namespace spillway::train {

class ShardState;

/// A rank's state as it is between two steps, copied out while the next step runs, for a checkpoint that is written meanwhile. A thread of
/// its own copies the state as it is stored into pinned host memory, part by part in the order in which the checkpoint is read from here,
/// and updates of an extent wait until all of it has been copied. Memory for less than all of the state is used again, part by part: then
/// updates wait for the reader too.
class StateSnapshot {
 public:
  /// When the state may be copied: the update that was last started is over.
  struct Settled {
    std::vector<Event> updated;  // of each unit
    std::vector<Event> back;     // of each extent, in host memory beside a GPU; empty: nothing comes back
    Event written;               // what was on its way to files
  };

  /// \param memory  of Device::allocate, pinned, at least the layout's least_bytes() or all of it; outlives this object as `state` does
  StateSnapshot(ShardState& state, SnapshotLayout layout, TensorView memory, Device& device);
  /// Gives up, and waits for the copies under way.
  ~StateSnapshot();
  StateSnapshot(const StateSnapshot&) = delete;
  StateSnapshot& operator=(const StateSnapshot&) = delete;

  /// Starts to copy. What was begun before must have been read to its end, or given up. The thread that starts updates.
  void begin(Settled settled);
  /// How many were begun so far. An update that was started after so many waits for the last of them, and for none that was begun since.
  [[nodiscard]] std::uint64_t begun() const noexcept { return begun_; }
  /// What an update changes.
  struct Change {
    std::size_t first = 0, end = 0;  // of the extents
    std::uint64_t begun = 0;         // when the update was started
  };
  /// Before extents change: blocks until their copies have been started, and has `queue`, which changes them, wait until they are done.
  /// Returns at once if nothing is being copied. Any thread.
  void wait_until_copied(const Change& change, Queue& queue);
  /// The same for the calling thread, which changes them.
  void wait_until_copied(const Change& change);
  /// Elements of what this rank owns of a unit as fp32: "master" is the exact parameter. Every part once, in the layout's order. Blocks
  /// until they have been copied. One thread. \throws what the copying threw; Error if it was given up or the order is another one
  void read(StateKind kind, int unit, Range range, std::span<float> to);
  /// Nobody will read the rest: updates need not wait any more. Any thread.
  void give_up() noexcept;

  /// Seconds that threads which update were blocked here so far.
  [[nodiscard]] double waited_seconds() const noexcept { return waited_seconds_; }
  /// Bytes read from files, and copied from a device to host memory, so far: no step's.
  [[nodiscard]] std::uint64_t file_bytes() const noexcept { return file_bytes_; }
  [[nodiscard]] std::uint64_t link_bytes() const noexcept { return link_bytes_; }

 private:
  struct Copy {
    std::size_t offset = 0;  // in the memory
    Event there;
  };
  [[nodiscard]] Event wait_for_copies(const Change& change);
  [[nodiscard]] bool over() const { return given_up_ || error_; }
  void copy_all() noexcept;
  bool copy(std::size_t part);
  [[nodiscard]] std::optional<std::size_t> place_for(std::size_t part);
  [[nodiscard]] bool is_free(std::size_t offset, std::size_t bytes, std::size_t part) const;
  void settle(const SnapshotLayout::Part& part, const SnapshotLayout::Run& run);
  [[nodiscard]] Copy wait_for_next();
  void decode(std::size_t part, std::size_t offset, Range range, std::span<float> to);

  ShardState& state_;
  SnapshotLayout layout_;
  std::span<std::byte> memory_;
  Device& device_;
  std::unique_ptr<kernels::OptimizerOps> ops_;       // the CPU's, on the thread that reads
  std::unique_ptr<Queue> reading_, copies_queue_;    // of those; of copies from the device
  std::vector<std::vector<std::size_t>> of_extent_;  // the parts of each extent
  Settled settled_;

  std::atomic<std::uint64_t> begun_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Copy> copies_;    // of each part
  std::size_t started_ = 0;     // parts whose copies have been
  std::size_t read_ = 0;        // parts that have been: their memory is free
  std::size_t next_place_ = 0;  // in the memory
  bool given_up_ = true;        // as long as there is nothing to read
  std::exception_ptr error_;

  std::atomic<double> waited_seconds_ = 0.0;
  std::atomic<std::uint64_t> file_bytes_ = 0, link_bytes_ = 0;
  std::unique_ptr<Queue> copier_;  // last: it uses all of the above
};

}  // namespace spillway::train
