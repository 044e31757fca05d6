// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "comm/communicator.hpp"

namespace spillway::app {

/// Sees to it that every rank is the same program with the same arguments: others would not come to the same collectives.
/// Blocks. \throws AgreedFailure (bad usage) on every rank, with the first rank that has something else than rank 0
void require_same_call(comm::Communicator& communicator, const std::vector<std::string>& arguments);

}  // namespace spillway::app
