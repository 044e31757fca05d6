// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstring>
#include <mutex>

#include <fmt/format.h>

#include "comm/queued_communicator.hpp"
#include "comm/rank_order_sum.hpp"
#include "core/error.hpp"
#include "core/host_name.hpp"
#include "core/log.hpp"

namespace spillway::comm {
namespace {

/// What a group of ranks shares with the groups that it was split into: what breaks one wakes the ranks of all.
struct Family {
  std::mutex mutex;
  std::condition_variable changed;
  std::string broken;

  /// The first reason stays.
  void break_up(const std::string& reason) {
    const std::scoped_lock lock(mutex);
    if (broken.empty()) broken = "the group of ranks is broken: " + reason;
    changed.notify_all();
  }
};

/// Where the ranks' queues meet. Each posts what it gives, all meet, each reads what the others posted, all part: only
/// then may what was posted change.
class ThreadGroup {
 public:
  ThreadGroup(std::size_t ranks, std::shared_ptr<Family> family) : family_(std::move(family)), posted_(ranks) {}

  [[nodiscard]] const std::shared_ptr<Family>& family() const noexcept { return family_; }
  [[nodiscard]] int ranks() const noexcept { return static_cast<int>(posted_.size()); }
  void post(int rank, std::span<const std::byte> bytes) { posted_[static_cast<std::size_t>(rank)] = bytes; }
  [[nodiscard]] std::span<const std::byte> posted(int rank) const { return posted_[static_cast<std::size_t>(rank)]; }

  /// Blocks until all ranks are here. \throws CommunicationError if the group is broken
  void meet() {
    std::unique_lock lock(family_->mutex);
    if (!family_->broken.empty()) throw CommunicationError(family_->broken);
    const std::uint64_t meeting = meeting_;
    if (++arrived_ == ranks()) {
      arrived_ = 0;
      ++meeting_;
      family_->changed.notify_all();
      return;
    }
    family_->changed.wait(lock, [&] { return meeting_ != meeting || !family_->broken.empty(); });
    // A meeting that all had reached counts, even if the group broke right after it.
    if (meeting_ == meeting) throw CommunicationError(family_->broken);
  }

  /// Blocks until all ranks that met are here. Also in a broken group: one of them may still be reading what another
  /// posted, and none of them waits for anything but this.
  void part() noexcept {
    std::unique_lock lock(family_->mutex);
    const std::uint64_t parting = parting_;
    if (++departed_ == ranks()) {
      departed_ = 0;
      ++parting_;
      family_->changed.notify_all();
      return;
    }
    family_->changed.wait(lock, [&] { return parting_ != parting; });
  }

 private:
  std::shared_ptr<Family> family_;
  std::vector<std::span<const std::byte>> posted_;  // ordered by the meetings
  int arrived_ = 0, departed_ = 0;
  std::uint64_t meeting_ = 0, parting_ = 0;
};

/// The watchdogs of one process's ranks.
struct Roll {
  explicit Roll(std::size_t ranks) : watchdogs(ranks), hosts(ranks, host_name()) {}

  std::mutex mutex;
  std::vector<std::weak_ptr<Watchdog>> watchdogs;
  std::vector<std::string> hosts;
};

/// The ranks of one process.
class ThreadPeers : public Peers {
 public:
  ThreadPeers(int rank, std::shared_ptr<Roll> roll) : rank_(rank), roll_(std::move(roll)) {}
  [[nodiscard]] int rank() const override { return rank_; }
  [[nodiscard]] const std::vector<std::string>& hosts() const override { return roll_->hosts; }
  void answer(const Position&) override {}
  [[nodiscard]] std::vector<std::optional<Position>> ask(const Position&, std::chrono::milliseconds) override {
    const std::scoped_lock lock(roll_->mutex);
    std::vector<std::optional<Position>> positions;
    for (const std::weak_ptr<Watchdog>& watchdog : roll_->watchdogs) {
      const std::shared_ptr<Watchdog> alive = watchdog.lock();
      positions.push_back(alive ? std::optional(alive->position()) : std::nullopt);
    }
    return positions;
  }

 private:
  int rank_;
  std::shared_ptr<Roll> roll_;
};

std::shared_ptr<Watchdog> make_watchdog(int rank, const std::shared_ptr<Family>& family,
                                        const std::shared_ptr<Roll>& roll) {
  auto watchdog = std::make_shared<Watchdog>([rank, family](const std::string& reason) {
    log::error(reason);
    family->break_up(fmt::format("rank {}: {}", rank, reason));
  });
  watchdog->set_peers(std::make_unique<ThreadPeers>(rank, roll));
  const std::scoped_lock lock(roll->mutex);
  roll->watchdogs[static_cast<std::size_t>(rank)] = watchdog;
  return watchdog;
}

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
  ThreadCommunicator(int rank, std::shared_ptr<ThreadGroup> group, std::shared_ptr<Watchdog> watchdog)
      : QueuedCommunicator(rank, group->ranks(), make_host_device()->create_worker_queue(fmt::format("comm-{}", rank)),
                           std::move(watchdog)),
        group_(std::move(group)),
        pieces_(static_cast<std::size_t>(size())) {}
  ThreadCommunicator(int rank, std::shared_ptr<ThreadGroup> group, ThreadCommunicator& parent)
      : QueuedCommunicator(rank, group->ranks(), parent),
        group_(std::move(group)),
        pieces_(static_cast<std::size_t>(size())) {}
  ThreadCommunicator(const ThreadCommunicator&) = delete;
  ThreadCommunicator& operator=(const ThreadCommunicator&) = delete;
  ~ThreadCommunicator() override {
    // The other groups go on when one is no longer needed.
    if (!is_group() || busy()) break_up(fmt::format("rank {} has left", rank()));
    leave_queue();
  }

  void reserve(std::size_t) override {}

  void abort(int, const std::string& reason) noexcept override {
    log::error(reason);
    break_up(fmt::format("rank {}: {}", rank(), reason));
  }

 protected:
  void do_all_gather(std::span<const std::byte> shard, std::byte* full) override {
    group_->post(rank(), shard);
    const Meeting meeting(*group_);
    for (int r = 0; r < size(); ++r)
      copy_unless_same(full + static_cast<std::size_t>(r) * shard.size(), posted("all_gather", r, shard.size()));
    count_sent(shard.size() * others());
  }

  void do_reduce_scatter(ConstTensorView full, TensorView shard, std::span<const int> pieces) override {
    group_->post(rank(), {full.data(), full.bytes()});
    const Meeting meeting(*group_);
    const std::size_t piece_bytes = full.bytes() / static_cast<std::size_t>(size());
    const std::size_t begin = static_cast<std::size_t>(piece_of(pieces, rank())) * piece_bytes;
    for (int r = 0; r < size(); ++r)
      pieces_[static_cast<std::size_t>(r)] = posted("reduce_scatter", r, full.bytes()).data() + begin;
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

  std::unique_ptr<Communicator> do_split(int color, int key) override {
    const std::array<int, 2> mine{color, key};
    const auto given = exchange(std::as_bytes(std::span(mine)));
    std::vector<std::pair<int, int>> members;  // key, rank here
    for (int r = 0; r < size(); ++r) {
      std::array<int, 2> theirs{};
      std::memcpy(theirs.data(), given[static_cast<std::size_t>(r)].data(), sizeof theirs);
      if (theirs[0] == color) members.emplace_back(theirs[1], r);
    }
    std::sort(members.begin(), members.end());
    const auto place = std::find(members.begin(), members.end(), std::pair(key, rank())) - members.begin();
    // The first member makes what they share, and the others copy it from there.
    std::shared_ptr<ThreadGroup> group;
    if (place == 0) group = std::make_shared<ThreadGroup>(members.size(), group_->family());
    run_on_queue({"split"}, [&] {
      group_->post(rank(), std::as_bytes(std::span(&group, 1)));
      const Meeting meeting(*group_);
      const std::span<const std::byte> made = group_->posted(members.front().second);
      if (place != 0) group = *reinterpret_cast<const std::shared_ptr<ThreadGroup>*>(made.data());
    });
    return std::make_unique<ThreadCommunicator>(static_cast<int>(place), std::move(group), *this);
  }

 private:
  void break_up(const std::string& reason) { group_->family()->break_up(reason); }
  [[nodiscard]] std::size_t others() const { return static_cast<std::size_t>(size() - 1); }

  /// Ranks that are not in the same call would read past the end: found here, where it can be named.
  [[nodiscard]] std::span<const std::byte> posted(const char* operation, int from, std::size_t bytes) {
    const std::span<const std::byte> found = group_->posted(from);
    if (found.size() != bytes) {
      const std::string reason = fmt::format("{}: rank {} expected {} bytes of rank {}, found {}", operation, rank(),
                                             bytes, from, found.size());
      break_up(reason);
      throw CommunicationError(reason);
    }
    return found;
  }

  std::shared_ptr<ThreadGroup> group_;
  std::vector<const std::byte*> pieces_;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> make_thread_communicators(int ranks) {
  const auto group = std::make_shared<ThreadGroup>(static_cast<std::size_t>(ranks), std::make_shared<Family>());
  const auto roll = std::make_shared<Roll>(static_cast<std::size_t>(ranks));
  std::vector<std::unique_ptr<Communicator>> communicators;
  for (int rank = 0; rank < ranks; ++rank)
    communicators.push_back(
        std::make_unique<ThreadCommunicator>(rank, group, make_watchdog(rank, group->family(), roll)));
  return communicators;
}

}  // namespace spillway::comm
