// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <string>

#include "comm/communicator.hpp"

namespace spillway::train {

/// Makes sure that `folder` is one folder for all ranks, as a checkpoint needs it: every rank writes a file of its own into it and reads
/// those of others. A folder of the same name on each node's own disk is found out now and not at the first save.
/// Rank 0, where the folder exists, leaves a file there for a moment. Collective.
/// \param key  that set it, for the message
/// \param patience  how late a network file system may show what another node wrote
/// \throws AgreedFailure naming the ranks and nodes that see another folder
void check_shared_folder(const std::string& key, const std::string& folder, comm::Communicator& communicator,
                         std::chrono::milliseconds patience = std::chrono::seconds(5));

}  // namespace spillway::train
