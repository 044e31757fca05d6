// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>

#include "comm/communicator.hpp"
#include "comm/node_layout.hpp"
#include "comm/watchdog.hpp"
#include "core/device.hpp"

namespace spillway::comm {

/// Initialises MPI (serialized threads) and finalises it; owned by main, one in a process. A process that no launcher
/// started is a world of one rank and leaves MPI alone: Open MPI's files of such processes get in each other's way. Outlives every communicator. Destroyed by an exception that leaves its scope, it
/// aborts the job, because finalising would wait for ranks that wait for this one.
class MpiEnvironment {
 public:
  /// \param timeout  of the watchdog, until somebody sets another
  MpiEnvironment(int* argc, char*** argv, std::chrono::milliseconds timeout = Watchdog::kDefaultTimeout);
  ~MpiEnvironment();
  MpiEnvironment(const MpiEnvironment&) = delete;
  MpiEnvironment& operator=(const MpiEnvironment&) = delete;

  /// False: no launcher started this process.
  [[nodiscard]] bool initialised() const noexcept { return initialised_; }
  [[nodiscard]] int rank() const noexcept { return rank_; }
  [[nodiscard]] int size() const noexcept { return size_; }
  /// Which ranks share a node (MPI_Comm_split_type SHARED).
  [[nodiscard]] const NodeLayout& nodes() const noexcept { return nodes_; }
  /// This rank's number among, and the number of, the ranks on its node.
  [[nodiscard]] int local_rank() const { return nodes_.local_rank_of(rank_); }
  [[nodiscard]] int local_size() const { return nodes_.ranks_on(nodes_.node_of(rank_)); }
  /// Ends a job that hangs, from before MPI_Init to the end of MPI_Finalize; with a communicator's.
  [[nodiscard]] const std::shared_ptr<Watchdog>& watchdog() const noexcept { return watchdog_; }
  /// Ends every rank of the job with `exit_code`, at once. From any thread.
  [[noreturn]] static void abort(int exit_code) noexcept;

 private:
  void wait_for_all() noexcept;

  bool initialised_ = false;
  int rank_ = 0, size_ = 1;
  NodeLayout nodes_;
  std::shared_ptr<Watchdog> watchdog_;
};

/// How tensors are cut. MPI counts in int, and sees progress only when a whole message has come.
struct MpiOptions {
  /// A tensor goes block by block, a block of every rank at a time. Multiple of 8.
  std::size_t block_bytes = std::size_t{4} << 20;
  /// A block goes as messages of this size. At most 1 GiB.
  std::size_t message_bytes = std::size_t{128} << 10;
};

/// Host bytes that Communicator::reserve(piece_bytes) allocates over MPI: a block of every other rank's piece.
[[nodiscard]] std::size_t mpi_scratch_bytes(std::size_t piece_bytes, int ranks, const MpiOptions& options = {});

/// The world's ranks over MPI, on host memory. All ranks call it together. All MPI calls after this, those of its groups
/// too, run on the communicator's own worker queue, which polls, and sleeps when nothing comes, so that it leaves the core to the computing
/// thread: only one such communicator at a time. `device` must outlive it. An MPI call that fails is a
/// CommunicationError that names call and rank.
[[nodiscard]] std::unique_ptr<Communicator> make_mpi_communicator(const MpiEnvironment& environment, Device& device,
                                                                  const MpiOptions& options = {});

}  // namespace spillway::comm
