// SPDX-License-Identifier: Apache-2.0
#include "comm/mpi_call.hpp"

#include <array>
#include <string>
#include <thread>

#include <fmt/format.h>

#include "core/error.hpp"

namespace spillway::comm {

std::mutex& mpi_gate() {
  static std::mutex gate;  // MPI's own state is the process's, too
  return gate;
}

/// Tries again and again: a timed mutex locks with a call that GCC's thread sanitizer does not see.
std::unique_lock<std::mutex> mpi_gate_within(std::chrono::milliseconds patience) {
  const auto end = std::chrono::steady_clock::now() + patience;
  std::unique_lock lock(mpi_gate(), std::try_to_lock);
  while (!lock.owns_lock() && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::microseconds(50));
    (void)lock.try_lock();
  }
  return lock;
}

void check_mpi(const char* call, int rank, int result) {
  if (result == MPI_SUCCESS) return;
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  if (MPI_Error_string(result, text.data(), &length) != MPI_SUCCESS) length = 0;
  throw CommunicationError(fmt::format("rank {}: {} failed: {} (MPI error {})", rank, call,
                                       std::string(text.data(), static_cast<std::size_t>(length)), result));
}

}  // namespace spillway::comm
