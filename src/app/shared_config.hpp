// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "app/run_config.hpp"
#include "comm/communicator.hpp"
#include "train/run_options.hpp"

namespace spillway::app {

/// The options that rank 0's file, environment and arguments say, on every rank: nodes need not share a file system or
/// an environment for it. From then on train.collective_timeout holds. Blocks. \throws AgreedFailure on every rank if the configuration is wrong
[[nodiscard]] train::RunOptions read_shared_run_options(comm::Communicator& communicator, const ConfigSources& sources);

}  // namespace spillway::app
