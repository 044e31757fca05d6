// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "app/commands.hpp"
#include "train/job.hpp"
#include "train/run_state.hpp"

namespace spillway::app {

/// The options as a run keeps them: the file that repeats it, and every key with its value.
[[nodiscard]] train::ConfigRecord config_record(const train::RunOptions& options);

/// What main lends to a command, as the layers below see it. \param gpu  to be used instead of the host, if given
[[nodiscard]] train::Runtime lend(Runtime& runtime, Device* gpu);

}  // namespace spillway::app
