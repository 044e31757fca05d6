// SPDX-License-Identifier: Apache-2.0
#include "comm/mpi_communicator.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>

#include <fmt/format.h>
#include <sys/prctl.h>

#include "comm/mpi_call.hpp"
#include "comm/queued_communicator.hpp"
#include "comm/rank_order_sum.hpp"
#include "core/error.hpp"
#include "core/log.hpp"

namespace spillway::comm {
namespace {

constexpr int kTag = 1;  // messages of one pair of ranks arrive in order, and no two operations run at once
// Shared memory and sockets move a part of a message at each poll: as long as messages come, sleeping would throttle
// them. A yield instead of the sleep would give the core away for a whole time slice.
constexpr std::chrono::microseconds kSpin{100};
constexpr std::chrono::microseconds kPause{30};
constexpr unsigned long kTimerSlackNanoseconds = 1000;  // the default, 50 µs, would more than double the pause

class MpiCommunicator : public QueuedCommunicator {
 public:
  MpiCommunicator(const MpiEnvironment& environment, Device& device, const MpiOptions& options)
      : QueuedCommunicator(environment.rank(), environment.size(), device.create_worker_queue("comm"),
                           environment.watchdog()),
        device_(device),
        options_(options),
        pieces_(static_cast<std::size_t>(size())),
        closing_(std::make_shared<std::atomic<bool>>(false)) {
    if (options_.message_bytes == 0 || options_.message_bytes > (std::size_t{1} << 30) || options_.block_bytes == 0 ||
        options_.block_bytes % 8 != 0)
      throw Error(
          fmt::format("MPI messages of {} bytes in blocks of {} bytes", options_.message_bytes, options_.block_bytes));
    run_on_queue({"MPI_Comm_idup"}, [this] {
      prctl(PR_SET_TIMERSLACK, kTimerSlackNanoseconds);
      mpi_call("MPI_Comm_idup", this->rank(),
               [this] { return MPI_Comm_idup(MPI_COMM_WORLD, &group_, &requests_.emplace_back()); });
      complete("MPI_Comm_idup");
    });
  }
  /// Takes over `group`, whose rank and size these are.
  MpiCommunicator(int rank, int size, MPI_Comm group, MpiCommunicator& parent)
      : QueuedCommunicator(rank, size, parent),
        device_(parent.device_),
        options_(parent.options_),
        group_(group),
        pieces_(static_cast<std::size_t>(size)),
        closing_(parent.closing_) {}
  MpiCommunicator(const MpiCommunicator&) = delete;
  MpiCommunicator& operator=(const MpiCommunicator&) = delete;
  ~MpiCommunicator() override {
    if (!is_group() || busy()) *closing_ = true;
    leave_queue([group = group_, rank = rank()]() mutable {
      mpi_call("MPI_Comm_free", rank, [&group] { return MPI_Comm_free(&group); });
    });
  }

  void reserve(std::size_t piece_bytes) override {
    const std::size_t bytes = mpi_scratch_bytes(piece_bytes, size(), options_);
    if (bytes > scratch_.bytes()) scratch_ = device_.allocate(MemoryKind::pinned_host, bytes);
  }

  [[nodiscard]] Event reduce_scatter(const Event& after, ConstTensorView full, TensorView shard,
                                     std::span<const int> piece_of_rank) override {
    const std::size_t needed = mpi_scratch_bytes(full.bytes() / static_cast<std::size_t>(size()), size(), options_);
    if (needed > scratch_.bytes())
      throw Error(fmt::format("reduce_scatter of {} bytes needs {} bytes of scratch, reserved are {}", full.bytes(),
                              needed, scratch_.bytes()));
    return QueuedCommunicator::reduce_scatter(after, full, shard, piece_of_rank);
  }

  void abort(int exit_code, const std::string& reason) noexcept override {
    log::error(reason);
    MpiEnvironment::abort(exit_code);
  }

 protected:
  void do_all_gather(std::span<const std::byte> shard, std::byte* full) override {
    const auto place_of = [&](int piece) { return full + static_cast<std::size_t>(piece) * shard.size(); };
    copy_unless_same(place_of(rank()), shard);
    for_each_block(shard.size(), [&](std::size_t begin, std::size_t bytes) {
      for (int step = 1; step < size(); ++step) receive({place_of(peer(-step)) + begin, bytes}, peer(-step));
      for (int step = 1; step < size(); ++step) send(shard.subspan(begin, bytes), peer(step));
      complete("all_gather");
    });
  }

  /// Receives the other ranks' block of this rank's piece, sends the same block of theirs, sums.
  void do_reduce_scatter(ConstTensorView full, TensorView shard, std::span<const int> pieces) override {
    const std::size_t piece_bytes = full.bytes() / static_cast<std::size_t>(size());
    const std::size_t element_bytes = size_of(full.dtype());
    for_each_block(piece_bytes, [&](std::size_t begin, std::size_t bytes) {
      const auto block_of = [&](int rank) {
        return full.data() + static_cast<std::size_t>(piece_of(pieces, rank)) * piece_bytes + begin;
      };
      std::byte* scratch = scratch_.data();
      for (int step = 1; step < size(); ++step, scratch += bytes) {
        receive({scratch, bytes}, peer(-step));
        pieces_[static_cast<std::size_t>(peer(-step))] = scratch;
      }
      pieces_[static_cast<std::size_t>(rank())] = block_of(rank());
      for (int step = 1; step < size(); ++step) send({block_of(peer(step)), bytes}, peer(step));
      complete("reduce_scatter");
      sum_in_rank_order(pieces_, full.dtype(),
                        shard.flat(static_cast<std::int64_t>(begin / element_bytes),
                                   static_cast<std::int64_t>(bytes / element_bytes)));
    });
  }

  /// A binomial tree over the ranks counted from the root: whoever has a block passes it on, to the farthest first.
  void do_broadcast(std::span<std::byte> tensor, int root) override {
    const int place = (rank() - root + size()) % size();
    const auto rank_at = [&](int other) { return (other + root) % size(); };
    int reach = 1;
    while (reach < size() && (place & reach) == 0) reach *= 2;
    for_each_block(tensor.size(), [&](std::size_t begin, std::size_t bytes) {
      const std::span<std::byte> block = tensor.subspan(begin, bytes);
      if (place != 0) {
        receive(block, rank_at(place - reach));
        complete("broadcast");
      }
      for (int distance = reach / 2; distance > 0; distance /= 2)
        if (place + distance < size()) send(block, rank_at(place + distance));
      complete("broadcast");
    });
  }

  void do_barrier() override {
    mpi_call("MPI_Ibarrier", rank(), [this] { return MPI_Ibarrier(group_, &requests_.emplace_back()); });
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

  std::unique_ptr<Communicator> do_split(int color, int key) override {
    MPI_Comm group = MPI_COMM_NULL;
    int group_rank = 0, group_size = 1;
    // The call blocks with MPI in its hands: it is made when all are there.
    run_on_queue({"split"}, [&] {
      do_barrier();
      mpi_call("MPI_Comm_split", rank(), [&] { return MPI_Comm_split(group_, color, key, &group); });
      mpi_call("MPI_Comm_rank", rank(), [&] { return MPI_Comm_rank(group, &group_rank); });
      mpi_call("MPI_Comm_size", rank(), [&] { return MPI_Comm_size(group, &group_size); });
    });
    return std::make_unique<MpiCommunicator>(group_rank, group_size, group, *this);
  }

 private:
  /// The rank `step` after this one: each sends to another one first, so that they do not all meet at rank 0.
  [[nodiscard]] int peer(int step) const { return (rank() + step + size()) % size(); }

  void receive(std::span<std::byte> bytes, int from) {
    for (std::size_t begin = 0; begin < bytes.size(); begin += options_.message_bytes) {
      const auto part = bytes.subspan(begin, std::min(options_.message_bytes, bytes.size() - begin));
      mpi_call("MPI_Irecv", rank(), [&] {
        return MPI_Irecv(part.data(), static_cast<int>(part.size()), MPI_BYTE, from, kTag, group_,
                         &requests_.emplace_back());
      });
    }
  }

  void send(std::span<const std::byte> bytes, int to) {
    for (std::size_t begin = 0; begin < bytes.size(); begin += options_.message_bytes) {
      const auto part = bytes.subspan(begin, std::min(options_.message_bytes, bytes.size() - begin));
      mpi_call("MPI_Isend", rank(), [&] {
        return MPI_Isend(part.data(), static_cast<int>(part.size()), MPI_BYTE, to, kTag, group_,
                         &requests_.emplace_back());
      });
    }
    count_sent(bytes.size());
  }

  /// Waits for everything posted. A blocking call would spin and take the core from the computing thread.
  void complete(const char* operation) {
    using Clock = std::chrono::steady_clock;
    finished_.resize(requests_.size());
    for (auto sleep_from = Clock::now() + kSpin; !requests_.empty();) {
      int count = 0;
      mpi_call("MPI_Testsome", rank(), [&] {
        return MPI_Testsome(static_cast<int>(requests_.size()), requests_.data(), &count, finished_.data(),
                            MPI_STATUSES_IGNORE);
      });
      if (count != 0) {
        std::erase(requests_, MPI_REQUEST_NULL);
        sleep_from = Clock::now() + kSpin;
      } else if (*closing_) {
        throw CommunicationError(fmt::format("rank {}: given up in {}", rank(), operation));
      } else if (Clock::now() >= sleep_from) {
        std::this_thread::sleep_for(kPause);
      }
    }
  }

  template <typename Work>
  void for_each_block(std::size_t bytes, Work work) const {
    for (std::size_t begin = 0; begin < bytes; begin += options_.block_bytes)
      work(begin, std::min(options_.block_bytes, bytes - begin));
  }

  Device& device_;
  MpiOptions options_;
  MPI_Comm group_ = MPI_COMM_NULL;  // its own, so that its messages meet no others
  Buffer scratch_;
  std::vector<const std::byte*> pieces_;  // of one block of reduce_scatter, by rank
  std::vector<MPI_Request> requests_;     // posted and not yet done
  std::vector<int> finished_;
  std::shared_ptr<std::atomic<bool>> closing_;  // with its groups
};

}  // namespace

std::size_t mpi_scratch_bytes(std::size_t piece_bytes, int ranks, const MpiOptions& options) {
  return static_cast<std::size_t>(ranks - 1) * std::min(piece_bytes, options.block_bytes);
}

std::unique_ptr<Communicator> make_mpi_communicator(const MpiEnvironment& environment, Device& device,
                                                    const MpiOptions& options) {
  if (!environment.initialised()) return make_single_communicator();
  return std::make_unique<MpiCommunicator>(environment, device, options);
}

}  // namespace spillway::comm
