// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "comm/mpi_communicator.hpp"

namespace spillway::test {

/// The MPI environment that the main of spillway_mpi_main owns. Only for tests with RANKS, while they run.
[[nodiscard]] comm::MpiEnvironment& environment();

}  // namespace spillway::test
