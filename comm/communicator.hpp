// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/device.hpp"
#include "core/tensor_view.hpp"

namespace spillway::comm {

class Watchdog;

/// Collectives of a fixed group of ranks. Every rank makes the same calls in the same order. The tensor collectives
/// return at once: they run on the communicator's own queue (for MPI the one thread that calls MPI), start when `after`
/// has happened, and are done when the returned event is; the views must live until then. An event rethrows
/// CommunicationError if the group is broken: give the communicator up. A group of one rank copies, or does nothing
/// where source and target are the same memory. One thread at a time may call a communicator and its groups, `abort`
/// apart. Wait for its events before it is destroyed: work still under way then fails, here and on the other ranks.
class Communicator {
 public:
  virtual ~Communicator() = default;
  [[nodiscard]] virtual int rank() const noexcept = 0;
  [[nodiscard]] virtual int size() const noexcept = 0;

  /// Every rank's `shard` into `full` in rank order, on every rank.
  /// \param full  size() * shard.elements() elements, same dtype; `shard` may be its own place inside `full`
  [[nodiscard]] virtual Event all_gather(const Event& after, ConstTensorView shard, TensorView full) = 0;

  /// shard[i] = Σ_r full_r[piece_of_rank[rank()] * n + i], summed in fp32 in rank order 0, 1, ... and, if shard is
  /// narrower, rounded once: an all-to-all of pieces and a local sum, so every backend gives the same bits, and a piece
  /// has the same bits whichever rank gets it.
  /// \param full   size() * shard.elements() elements: f32, bf16 or f16, the dtype on the wire
  /// \param shard  f32 or the dtype of `full`; with that dtype it may be its own place inside `full`
  /// \param piece_of_rank  the block of `full` that each rank gets: every number below size() once, the same on every
  ///                       rank, or nothing, if every rank gets the block of its own number. Lives as long as the views
  [[nodiscard]] virtual Event reduce_scatter(const Event& after, ConstTensorView full, TensorView shard,
                                             std::span<const int> piece_of_rank) = 0;
  [[nodiscard]] Event reduce_scatter(const Event& after, ConstTensorView full, TensorView shard) {
    return reduce_scatter(after, full, shard, {});
  }

  /// Allocates what reduce_scatter needs beside its views, for shards of up to `piece_bytes` in the wire's dtype.
  /// Called before the first step, so that no step allocates; reduce_scatter throws Error at a longer shard if its
  /// backend needs the scratch.
  virtual void reserve(std::size_t piece_bytes) = 0;

  /// `tensor` of rank `root` to every rank.
  [[nodiscard]] virtual Event broadcast(const Event& after, TensorView tensor, int root) = 0;

  /// Blocks until every rank has called it.
  virtual void barrier() = 0;

  /// Blocks. `bytes` of every rank, in rank order, on every rank; lengths may differ. For facts and messages, not for
  /// tensors.
  [[nodiscard]] virtual std::vector<std::vector<std::byte>> exchange(std::span<const std::byte> bytes) = 0;

  /// Blocks. The ranks that give the same `color` become a group of their own, numbered in the order of their keys, and
  /// where keys are equal in their order here. This communicator must outlive it, and runs the group's collectives on
  /// its own queue, in the order in which this rank calls it and all its groups: every rank keeps one order of calls that
  /// any two of them have in common. What breaks one breaks all. A group's scratch is reserved apart.
  /// \param color  0 or more
  [[nodiscard]] virtual std::unique_ptr<Communicator> split(int color, int key) = 0;

  /// Which sees to it that no collective of this communicator or its groups hangs: told what they are about, it can name it.
  [[nodiscard]] virtual Watchdog& watchdog() noexcept = 0;

  /// Bytes that this rank has sent to others so far, in its groups too.
  [[nodiscard]] virtual std::uint64_t bytes_sent() const noexcept = 0;

  /// Logs `reason` and ends every rank of the job with `exit_code`, at once (MPI_Abort). Used when this rank fails
  /// while others wait for it: nothing else wakes them. From any thread. Groups within one process break the group
  /// instead: every rank's next wait throws CommunicationError with the reason.
  virtual void abort(int exit_code, const std::string& reason) noexcept = 0;
};

/// Σ over ranks, element by element, in rank order, in fp64; the same bits on every rank. Blocks.
[[nodiscard]] std::vector<double> ordered_sum(Communicator& communicator, std::span<const double> values);

/// All ranks' vectors one after the other, in rank order. Blocks.
[[nodiscard]] std::vector<double> all_gather_doubles(Communicator& communicator, std::span<const double> values);

/// The same text on every rank: that of `root`. Blocks.
[[nodiscard]] std::string broadcast_text(Communicator& communicator, const std::string& text, int root);

/// A group of one.
[[nodiscard]] std::unique_ptr<Communicator> make_single_communicator();

/// `ranks` communicators of one process, one for each of `ranks` threads (tests).
[[nodiscard]] std::vector<std::unique_ptr<Communicator>> make_thread_communicators(int ranks);

}  // namespace spillway::comm
