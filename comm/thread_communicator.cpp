// SPDX-License-Identifier: Apache-2.0
#include <condition_variable>
#include <mutex>

#include <fmt/format.h>

#include "comm/queued_communicator.hpp"
#include "comm/rank_order_sum.hpp"
#include "core/error.hpp"
#include "core/log.hpp"

namespace spillway::comm {
namespace {

/// Where the ranks' queues meet. Each posts what it gives, all meet, each reads what the others posted, all part: only
/// then may what was posted change.
class ThreadGroup {
 public:
  explicit ThreadGroup(int ranks) : posted_(static_cast<std::size_t>(ranks)) {}

  [[nodiscard]] int ranks() const noexcept { return static_cast<int>(posted_.size()); }
  void post(int rank, std::span<const std::byte> bytes) { posted_[static_cast<std::size_t>(rank)] = bytes; }
  [[nodiscard]] std::span<const std::byte> posted(int rank) const { return posted_[static_cast<std::size_t>(rank)]; }

  /// Blocks until all ranks are here. \throws CommunicationError if the group is broken
  void meet() {
    std::unique_lock lock(mutex_);
    if (!broken_.empty()) throw CommunicationError(broken_);
    const std::uint64_t meeting = meeting_;
    if (++arrived_ == ranks()) {
      arrived_ = 0;
      ++meeting_;
      changed_.notify_all();
      return;
    }
    changed_.wait(lock, [&] { return meeting_ != meeting || !broken_.empty(); });
    // A meeting that all had reached counts, even if the group broke right after it.
    if (meeting_ == meeting) throw CommunicationError(broken_);
  }

  /// Blocks until all ranks that met are here. Also in a broken group: one of them may still be reading what another
  /// posted, and none of them waits for anything but this.
  void part() noexcept {
    std::unique_lock lock(mutex_);
    const std::uint64_t parting = parting_;
    if (++departed_ == ranks()) {
      departed_ = 0;
      ++parting_;
      changed_.notify_all();
      return;
    }
    changed_.wait(lock, [&] { return parting_ != parting; });
  }

  /// The first reason stays.
  void break_up(const std::string& reason) {
    const std::scoped_lock lock(mutex_);
    if (broken_.empty()) broken_ = "the group of ranks is broken: " + reason;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::span<const std::byte>> posted_;  // ordered by the meetings
  int arrived_ = 0, departed_ = 0;
  std::uint64_t meeting_ = 0, parting_ = 0;
  std::string broken_;
};

/// What was posted may be read from its making, when all have met, to its end, when all have read.
class Meeting {
 public:
  explicit Meeting(ThreadGroup& group) : group_(group) { group_.meet(); }
  ~Meeting() { group_.part(); }
  Meeting(const Meeting&) = delete;
  Meeting& operator=(const Meeting&) = delete;

 private:
  ThreadGroup& group_;
};

class ThreadCommunicator : public QueuedCommunicator {
 public:
  ThreadCommunicator(int rank, std::shared_ptr<ThreadGroup> group)
      : QueuedCommunicator(rank, group->ranks(), make_host_device()->create_worker_queue(fmt::format("comm-{}", rank))),
        group_(std::move(group)),
        pieces_(static_cast<std::size_t>(size())) {}
  ThreadCommunicator(const ThreadCommunicator&) = delete;
  ThreadCommunicator& operator=(const ThreadCommunicator&) = delete;
  ~ThreadCommunicator() override {
    group_->break_up(fmt::format("rank {} has left", rank()));
    stop_queue();
  }

  void reserve(std::size_t) override {}

  void abort(int, const std::string& reason) noexcept override {
    log::error(reason);
    group_->break_up(fmt::format("rank {}: {}", rank(), reason));
  }

 protected:
  void do_all_gather(std::span<const std::byte> shard, std::byte* full) override {
    group_->post(rank(), shard);
    const Meeting meeting(*group_);
    for (int r = 0; r < size(); ++r)
      copy_unless_same(full + static_cast<std::size_t>(r) * shard.size(), posted("all_gather", r, shard.size()));
    count_sent(shard.size() * others());
  }

  void do_reduce_scatter(ConstTensorView full, TensorView shard) override {
    group_->post(rank(), {full.data(), full.bytes()});
    const Meeting meeting(*group_);
    const std::size_t piece_bytes = full.bytes() / static_cast<std::size_t>(size());
    for (int r = 0; r < size(); ++r)
      pieces_[static_cast<std::size_t>(r)] =
          posted("reduce_scatter", r, full.bytes()).data() + static_cast<std::size_t>(rank()) * piece_bytes;
    sum_in_rank_order(pieces_, full.dtype(), shard);
    count_sent(piece_bytes * others());
  }

  void do_broadcast(std::span<std::byte> bytes, int root) override {
    group_->post(rank(), bytes);
    const Meeting meeting(*group_);
    if (rank() != root) copy_unless_same(bytes.data(), posted("broadcast", root, bytes.size()));
    else count_sent(bytes.size() * others());
  }

  void do_barrier() override {
    group_->post(rank(), {});
    const Meeting meeting(*group_);
  }

  std::vector<std::vector<std::byte>> do_exchange(std::span<const std::byte> bytes) override {
    group_->post(rank(), bytes);
    const Meeting meeting(*group_);
    std::vector<std::vector<std::byte>> all;
    for (int r = 0; r < size(); ++r) all.emplace_back(group_->posted(r).begin(), group_->posted(r).end());
    count_sent(bytes.size() * others());
    return all;
  }

 private:
  [[nodiscard]] std::size_t others() const { return static_cast<std::size_t>(size() - 1); }

  /// Ranks that are not in the same call would read past the end: found here, where it can be named.
  [[nodiscard]] std::span<const std::byte> posted(const char* operation, int from, std::size_t bytes) {
    const std::span<const std::byte> found = group_->posted(from);
    if (found.size() != bytes) {
      const std::string reason = fmt::format("{}: rank {} expected {} bytes of rank {}, found {}", operation, rank(),
                                             bytes, from, found.size());
      group_->break_up(reason);
      throw CommunicationError(reason);
    }
    return found;
  }

  std::shared_ptr<ThreadGroup> group_;
  std::vector<const std::byte*> pieces_;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> make_thread_communicators(int ranks) {
  const auto group = std::make_shared<ThreadGroup>(ranks);
  std::vector<std::unique_ptr<Communicator>> communicators;
  for (int rank = 0; rank < ranks; ++rank) communicators.push_back(std::make_unique<ThreadCommunicator>(rank, group));
  return communicators;
}

}  // namespace spillway::comm
