// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "comm/communicator.hpp"
#include "train/trace.hpp"

namespace spillway::train {

/// Writes what all ranks have traced to one file of Chrome's trace-event format (JSON): a process for each rank, a thread for each row,
/// microseconds since the first span. Ranks on one node share a clock; those of different nodes are as far apart as their clocks.
/// Collective; rank 0 writes. \throws AgreedFailure on every rank if it cannot
void write_trace(const std::string& path, const Trace& trace, comm::Communicator& communicator);

}  // namespace spillway::train
