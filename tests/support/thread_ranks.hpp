// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

#include "comm/communicator.hpp"

namespace spillway::test {

/// Runs `body` on `ranks` threads, each with its communicator of one group, and returns when all are done. A rank that
/// throws aborts the group, so that the others do not wait for it. \throws what the first rank that failed threw
void run_on_thread_ranks(int ranks, const std::function<void(comm::Communicator&)>& body);

}  // namespace spillway::test
