// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <mutex>

#include <mpi.h>

namespace spillway::comm {

/// MPI's threads are serialized: every call holds this. Beside the communicator's thread only the watchdog's
/// does, ten times a second, and `abort`: neither may wait for a call that hangs.
[[nodiscard]] std::mutex& mpi_gate();
/// The gate, if it is free within `patience`.
[[nodiscard]] std::unique_lock<std::mutex> mpi_gate_within(std::chrono::milliseconds patience);

/// \throws CommunicationError that names `call`, `rank` and MPI's reason unless `result` is MPI_SUCCESS
void check_mpi(const char* call, int rank, int result);

/// Makes one MPI call, which must not block for long, alone. \throws CommunicationError if it fails
template <typename Call>
void mpi_call(const char* name, int rank, Call call) {
  const std::scoped_lock lock(mpi_gate());
  check_mpi(name, rank, call());
}

}  // namespace spillway::comm
