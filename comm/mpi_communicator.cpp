// SPDX-License-Identifier: Apache-2.0
#include "comm/mpi_communicator.hpp"

#include <fmt/format.h>
#include <sys/prctl.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>

#include "comm/mpi_call.hpp"
#include "comm/queued_communicator.hpp"
#include "comm/rank_order_sum.hpp"
#include "core/error.hpp"
#include "core/log.hpp"

namespace spillway::comm {
namespace {

constexpr int kTag = 1;  // messages of one pair of ranks arrive in order, and no two operations run at once
constexpr int kPollsBeforeSleep = 20;
constexpr std::chrono::microseconds kPollPause{30};
constexpr unsigned long kTimerSlackNanoseconds = 1000;  // the default, 50 µs, would more than double the pause

class MpiCommunicator : public QueuedCommunicator {
 public:
  MpiCommunicator(const MpiEnvironment& environment, Device& device, const MpiOptions& options)
      : QueuedCommunicator(environment.rank(), environment.size(), device.create_worker_queue("comm")), device_(device),
        options_(options), pieces_(static_cast<std::size_t>(size())) {
    if (options_.message_bytes < 1 || options_.message_bytes > (std::size_t{1} << 30) || options_.reduce_block_bytes < 4 ||
        options_.reduce_block_bytes % 4 != 0)
      throw Error(fmt::format("MPI messages of {} bytes and blocks of {} bytes", options_.message_bytes, options_.reduce_block_bytes));
    run_on_queue([this] {
      prctl(PR_SET_TIMERSLACK, kTimerSlackNanoseconds);
      mpi_call("MPI_Comm_dup", rank(), [this] { return MPI_Comm_dup(MPI_COMM_WORLD, &world_); });
    });
  }
  MpiCommunicator(const MpiCommunicator&) = delete;
  MpiCommunicator& operator=(const MpiCommunicator&) = delete;
  ~MpiCommunicator() override {
    closing_ = true;
    try {
      run_on_queue([this] { mpi_call("MPI_Comm_free", rank(), [this] { return MPI_Comm_free(&world_); }); });
    } catch (const std::exception& error) {
      log::error(fmt::format("rank {}: closing the communicator: {}", rank(), error.what()));
    }
    stop_queue();
  }

  void reserve(std::size_t piece_bytes) override {
    const std::size_t bytes = mpi_scratch_bytes(piece_bytes, size(), options_);
    if (bytes > scratch_.bytes()) scratch_ = device_.allocate(MemoryKind::pinned_host, bytes);
  }

  [[nodiscard]] Event reduce_scatter(const Event& after, ConstTensorView full, TensorView shard) override {
    const std::size_t needed = mpi_scratch_bytes(full.bytes() / static_cast<std::size_t>(size()), size(), options_);
    if (needed > scratch_.bytes())
      throw Error(fmt::format("reduce_scatter of {} bytes needs {} bytes of scratch, reserved are {}", full.bytes(), needed,
                              scratch_.bytes()));
    return QueuedCommunicator::reduce_scatter(after, full, shard);
  }

  void abort(int exit_code, const std::string& reason) noexcept override {
    log::error(reason);
    MpiEnvironment::abort(exit_code);
  }

 protected:
  void do_all_gather(std::span<const std::byte> shard, std::byte* full) override {
    for (int step = 1; step < size(); ++step) {
      const int from = peer(-step);
      receive({full + static_cast<std::size_t>(from) * shard.size(), shard.size()}, from);
    }
    for (int step = 1; step < size(); ++step) send(shard, peer(step));
    copy_unless_same(full + static_cast<std::size_t>(rank()) * shard.size(), shard);
    complete("all_gather");
  }

  /// Block by block, so that the scratch stays small: receive the other ranks' block of this rank's piece, send the same block of
  /// theirs, sum.
  void do_reduce_scatter(ConstTensorView full, TensorView shard) override {
    const std::size_t piece_bytes = full.bytes() / static_cast<std::size_t>(size());
    for (std::size_t begin = 0; begin < piece_bytes; begin += options_.reduce_block_bytes) {
      const std::size_t bytes = std::min(options_.reduce_block_bytes, piece_bytes - begin);
      const auto block_of = [&](int piece) { return full.data() + static_cast<std::size_t>(piece) * piece_bytes + begin; };
      std::byte* scratch = scratch_.data();
      for (int step = 1; step < size(); ++step, scratch += bytes) {
        receive({scratch, bytes}, peer(-step));
        pieces_[static_cast<std::size_t>(peer(-step))] = scratch;
      }
      pieces_[static_cast<std::size_t>(rank())] = block_of(rank());
      for (int step = 1; step < size(); ++step) send({block_of(peer(step)), bytes}, peer(step));
      complete("reduce_scatter");
      const auto element = static_cast<std::int64_t>(size_of(full.dtype()));
      sum_in_rank_order(pieces_, full.dtype(),
                        shard.flat(static_cast<std::int64_t>(begin) / element, static_cast<std::int64_t>(bytes) / element));
    }
  }

  /// A binomial tree over the ranks counted from the root: whoever has the bytes passes them on, to the farthest first.
  void do_broadcast(std::span<std::byte> bytes, int root) override {
    const int place = (rank() - root + size()) % size();
    const auto rank_at = [&](int other) { return (other + root) % size(); };
    int reach = 1;
    while (reach < size() && (place & reach) == 0) reach *= 2;
    if (place != 0) {
      receive(bytes, rank_at(place - reach));
      complete("broadcast");
    }
    for (reach /= 2; reach > 0; reach /= 2)
      if (place + reach < size()) send(bytes, rank_at(place + reach));
    complete("broadcast");
  }

  void do_barrier() override {
    mpi_call("MPI_Ibarrier", rank(), [this] { return MPI_Ibarrier(world_, &requests_.emplace_back()); });
    complete("barrier");
  }

  std::vector<std::vector<std::byte>> do_exchange(std::span<const std::byte> bytes) override {
    std::vector<std::uint64_t> lengths(static_cast<std::size_t>(size()));
    const std::uint64_t length = bytes.size();
    do_all_gather(std::as_bytes(std::span(&length, 1)), reinterpret_cast<std::byte*>(lengths.data()));
    std::vector<std::vector<std::byte>> all(lengths.size());
    for (std::size_t r = 0; r < all.size(); ++r) all[r].resize(lengths[r]);
    for (int step = 1; step < size(); ++step) receive(all[static_cast<std::size_t>(peer(-step))], peer(-step));
    for (int step = 1; step < size(); ++step) send(bytes, peer(step));
    copy_unless_same(all[static_cast<std::size_t>(rank())].data(), bytes);
    complete("exchange");
    return all;
  }

 private:
  /// The rank `step` after this one: each sends to another one first, so that they do not all meet at rank 0.
  [[nodiscard]] int peer(int step) const { return (rank() + step + size()) % size(); }

  void receive(std::span<std::byte> bytes, int from) {
    for (std::size_t begin = 0; begin < bytes.size(); begin += options_.message_bytes) {
      const auto part = bytes.subspan(begin, std::min(options_.message_bytes, bytes.size() - begin));
      mpi_call("MPI_Irecv", rank(), [&] {
        return MPI_Irecv(part.data(), static_cast<int>(part.size()), MPI_BYTE, from, kTag, world_, &requests_.emplace_back());
      });
    }
  }

  void send(std::span<const std::byte> bytes, int to) {
    for (std::size_t begin = 0; begin < bytes.size(); begin += options_.message_bytes) {
      const auto part = bytes.subspan(begin, std::min(options_.message_bytes, bytes.size() - begin));
      mpi_call("MPI_Isend", rank(), [&] {
        return MPI_Isend(part.data(), static_cast<int>(part.size()), MPI_BYTE, to, kTag, world_, &requests_.emplace_back());
      });
    }
    count_sent(bytes.size());
  }

  /// Polls until everything posted is done. A blocking call would spin and take the core from the computing thread.
  void complete(const char* operation) {
    for (int polls = 0;; ++polls) {
      int done = 0;
      mpi_call("MPI_Testall", rank(), [&] {
        return MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &done, MPI_STATUSES_IGNORE);
      });
      if (done != 0) break;
      if (closing_) throw CommunicationError(fmt::format("rank {}: given up in {}", rank(), operation));
      if (polls < kPollsBeforeSleep) std::this_thread::yield();
      else std::this_thread::sleep_for(kPollPause);
    }
    requests_.clear();
  }

  Device& device_;
  MpiOptions options_;
  MPI_Comm world_ = MPI_COMM_NULL;
  Buffer scratch_;
  std::vector<const std::byte*> pieces_;  // of one block of reduce_scatter, by rank
  std::vector<MPI_Request> requests_;
  std::atomic<bool> closing_{false};
};

}  // namespace

std::size_t mpi_scratch_bytes(std::size_t piece_bytes, int ranks, const MpiOptions& options) {
  return static_cast<std::size_t>(ranks - 1) * std::min(piece_bytes, options.reduce_block_bytes);
}

std::unique_ptr<Communicator> make_mpi_communicator(const MpiEnvironment& environment, Device& device, const MpiOptions& options) {
  return std::make_unique<MpiCommunicator>(environment, device, options);
}

}  // namespace spillway::comm
