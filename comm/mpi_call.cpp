// SPDX-License-Identifier: Apache-2.0
#include "comm/mpi_call.hpp"

#include <array>
#include <string>

#include <fmt/format.h>

#include "core/error.hpp"

namespace spillway::comm {

std::timed_mutex& mpi_gate() {
  static std::timed_mutex gate;  // MPI's own state is the process's, too
  return gate;
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
