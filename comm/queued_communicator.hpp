// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "comm/communicator.hpp"
#include "comm/watchdog.hpp"
#include "core/device.hpp"
#include "core/tensor_view.hpp"

namespace spillway::comm {

/// What the host backends share: the views are checked on the caller's thread, then the work goes to the communicator's
/// own queue, behind `after`, where the watchdog sees it. A backend says only what that work is: its `do_` functions run on the queue's thread, one
/// at a time.
class QueuedCommunicator : public Communicator {
 public:
  [[nodiscard]] int rank() const noexcept override { return rank_; }
  [[nodiscard]] int size() const noexcept override { return size_; }
  [[nodiscard]] Event all_gather(const Event& after, ConstTensorView shard, TensorView full) override;
  [[nodiscard]] Event reduce_scatter(const Event& after, ConstTensorView full, TensorView shard,
                                     std::span<const int> piece_of_rank) override;
  [[nodiscard]] Event broadcast(const Event& after, TensorView tensor, int root) override;
  void barrier() override;
  [[nodiscard]] std::vector<std::vector<std::byte>> exchange(std::span<const std::byte> bytes) override;
  [[nodiscard]] std::unique_ptr<Communicator> split(int color, int key) override;
  [[nodiscard]] Watchdog& watchdog() noexcept override { return *watchdog_; }
  [[nodiscard]] std::uint64_t bytes_sent() const noexcept override { return bytes_sent_; }

 protected:
  /// What is watched: operation, and bytes that are the same on every rank; 0 if there are none.
  struct Operation {
    const char* name;
    std::size_t bytes = 0;
  };

  QueuedCommunicator(int rank, int size, std::unique_ptr<Queue> queue, std::shared_ptr<Watchdog> watchdog)
      : rank_(rank), size_(size), queue_(std::move(queue)), watchdog_(std::move(watchdog)) {}
  /// A group of `parent`, which outlives it, on its queue.
  QueuedCommunicator(int rank, int size, QueuedCommunicator& parent)
      : rank_(rank), size_(size), parent_(&parent), queue_(parent.queue_), watchdog_(parent.watchdog_) {}

  /// `shard` of every rank, all of one length, to its place in `full`.
  virtual void do_all_gather(std::span<const std::byte> shard, std::byte* full) = 0;
  /// `pieces` is empty or a permutation; `piece_of` reads it.
  virtual void do_reduce_scatter(ConstTensorView full, TensorView shard, std::span<const int> pieces) = 0;
  virtual void do_broadcast(std::span<std::byte> bytes, int root) = 0;
  virtual void do_barrier() = 0;
  [[nodiscard]] virtual std::vector<std::vector<std::byte>> do_exchange(std::span<const std::byte> bytes) = 0;

  /// Not on the queue: the backend runs what it needs there.
  [[nodiscard]] virtual std::unique_ptr<Communicator> do_split(int color, int key) = 0;

  /// Runs `work` on the queue's thread. Blocks. \throws what it or earlier work threw
  void run_on_queue(const Operation& operation, std::function<void()> work);
  /// Whether work of this communicator, its groups apart, is still to be done.
  [[nodiscard]] bool busy() const { return !last_.ready(); }
  [[nodiscard]] bool is_group() const noexcept { return parent_ != nullptr; }
  /// Waits until this communicator's work is done or has failed and ends the queue's thread, unless that is a parent's.
  /// Backends call it in their destructor, while the work's functions and members are still there.
  /// \param last  runs on the queue after that unless its work has failed; nobody waits for it
  void leave_queue(std::function<void()> last = {}) noexcept;
  void count_sent(std::size_t bytes) noexcept;

 private:
  Event enqueue(const Event& after, const Operation& operation, std::function<void()> work);

  int rank_, size_;
  std::atomic<std::uint64_t> bytes_sent_{0};
  QueuedCommunicator* parent_ = nullptr;
  std::shared_ptr<Queue> queue_;
  std::shared_ptr<Watchdog> watchdog_;
  Event last_;
};

/// The piece of `rank` in reduce_scatter.
[[nodiscard]] inline int piece_of(std::span<const int> pieces, int rank) {
  return pieces.empty() ? rank : pieces[static_cast<std::size_t>(rank)];
}

/// Copies unless source and target are the same memory.
void copy_unless_same(std::byte* to, std::span<const std::byte> from) noexcept;

}  // namespace spillway::comm
