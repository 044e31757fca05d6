// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "comm/mpi_call.hpp"
#include "comm/mpi_communicator.hpp"
#include "comm/mpi_peers.hpp"
#include "comm/watchdog.hpp"
#include "core/error.hpp"
#include "core/log.hpp"

namespace spillway::comm {
namespace {

/// mpirun, and srun with PMIx or PMI, tell the processes that they start who they are.
bool has_launcher() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK"})
    if (std::getenv(name) != nullptr) return true;
  return false;
}

std::atomic<bool> finalising = false;  // MPI is the process's

/// What an abort may take that has to go through MPI and the launcher.
constexpr std::chrono::seconds kAbortPatience{10};

}  // namespace

MpiEnvironment::MpiEnvironment(int* argc, char*** argv, std::chrono::milliseconds timeout) {
  if (!has_launcher()) {
    watchdog_ = std::make_shared<Watchdog>();
    return;
  }
  watchdog_ = std::make_shared<Watchdog>([](const std::string& reason) {
    log::error(reason);
    abort(static_cast<int>(ExitCode::failure));
  });
  watchdog_->set_timeout(timeout);
  const Watchdog::Call call(*watchdog_, "MPI_Init");
  initialised_ = true;
  int provided = MPI_THREAD_SINGLE;
  check_mpi("MPI_Init_thread", rank_, MPI_Init_thread(argc, argv, MPI_THREAD_SERIALIZED, &provided));
  check_mpi("MPI_Comm_set_errhandler", rank_, MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN));
  check_mpi("MPI_Comm_rank", rank_, MPI_Comm_rank(MPI_COMM_WORLD, &rank_));
  check_mpi("MPI_Comm_size", rank_, MPI_Comm_size(MPI_COMM_WORLD, &size_));
  if (provided < MPI_THREAD_SERIALIZED)
    throw CommunicationError(fmt::format("rank {}: MPI offers thread level {}, needed is MPI_THREAD_SERIALIZED ({})",
                                         rank_, provided, MPI_THREAD_SERIALIZED));
  MPI_Comm node = MPI_COMM_NULL;
  check_mpi("MPI_Comm_split_type", rank_,
            MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &node));
  int first = rank_;  // of the node
  check_mpi("MPI_Bcast", rank_, MPI_Bcast(&first, 1, MPI_INT, 0, node));
  check_mpi("MPI_Comm_free", rank_, MPI_Comm_free(&node));
  std::vector<int> first_of_rank(static_cast<std::size_t>(size_));
  check_mpi("MPI_Allgather", rank_,
            MPI_Allgather(&first, 1, MPI_INT, first_of_rank.data(), 1, MPI_INT, MPI_COMM_WORLD));
  nodes_ = NodeLayout(first_of_rank);
  if (size_ > 1) watchdog_->set_peers(make_mpi_peers(rank_, size_));
}

MpiEnvironment::~MpiEnvironment() {
  if (std::uncaught_exceptions() > 0) {
    log::error(fmt::format("rank {}: an error leaves the MPI environment; the job ends", rank_));
    abort(static_cast<int>(ExitCode::failure));
  }
  if (!initialised_) return;
  wait_for_all();
  watchdog_->set_peers(nullptr);
  const Watchdog::Call call(*watchdog_, "MPI_Finalize");
  finalising = true;
  if (MPI_Finalize() != MPI_SUCCESS) log::error(fmt::format("rank {}: MPI_Finalize failed", rank_));
}

/// MPI_Finalize does so too, but once it has begun nobody can be asked.
void MpiEnvironment::wait_for_all() noexcept {
  const Watchdog::Call call(*watchdog_, "the end of the program", 0, size_);
  MPI_Request request = MPI_REQUEST_NULL;
  int done = 0;
  for (bool begun = false; done == 0; begun = true) {
    {
      const std::scoped_lock lock(mpi_gate());
      if ((!begun && MPI_Ibarrier(MPI_COMM_WORLD, &request) != MPI_SUCCESS) ||
          MPI_Test(&request, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS)
        return;
    }
    if (done == 0) std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
}

void MpiEnvironment::abort(int exit_code) noexcept {
  // MPI may wait for what has failed, and the job has to end.
  std::thread([exit_code] {
    std::this_thread::sleep_for(kAbortPatience);
    std::_Exit(exit_code);
  }).detach();
  // Wait for a call under way in the communicator's thread, but not for one that hangs.
  const std::unique_lock lock = mpi_gate_within(std::chrono::seconds(1));
  int initialised = 0;
  MPI_Initialized(&initialised);
  if (initialised != 0 && !finalising) MPI_Abort(MPI_COMM_WORLD, exit_code);
  std::_Exit(exit_code);
}

}  // namespace spillway::comm
