// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "comm/communicator.hpp"
#include "core/device.hpp"

namespace spillway::comm {

/// Initialises MPI (serialized threads) and finalises it; owned by main, one in a process. A process that no launcher started
/// is a world of one rank.
class MpiEnvironment {
 public:
  MpiEnvironment(int* argc, char*** argv);
  ~MpiEnvironment();
  MpiEnvironment(const MpiEnvironment&) = delete;
  MpiEnvironment& operator=(const MpiEnvironment&) = delete;

  [[nodiscard]] int rank() const noexcept { return rank_; }
  [[nodiscard]] int size() const noexcept { return size_; }
  /// This rank's number among, and the number of, the ranks on its node (MPI_Comm_split_type SHARED).
  [[nodiscard]] int local_rank() const noexcept { return local_rank_; }
  [[nodiscard]] int local_size() const noexcept { return local_size_; }

 private:
  int rank_ = 0, size_ = 1, local_rank_ = 0, local_size_ = 1;
};

/// The world's ranks over MPI, on host memory. All MPI calls after this run on the communicator's own worker queue.
[[nodiscard]] std::unique_ptr<Communicator> make_mpi_communicator(const MpiEnvironment& environment, Device& device);

}  // namespace spillway::comm
