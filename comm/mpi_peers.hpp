// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "comm/watchdog.hpp"

namespace spillway::comm {

/// The world's ranks over messages of their own, in a duplicate of the world: what ranks ask and answer meets no
/// collective. All ranks make it together, before any other thread calls MPI, and end it before MPI_Finalize.
/// \throws CommunicationError
[[nodiscard]] std::unique_ptr<Peers> make_mpi_peers(int rank, int size);

}  // namespace spillway::comm
