// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "app/commands.hpp"
#include "train/run_options.hpp"

namespace spillway::app {

/// The GPU of this rank if train.device asks for one, or leaves the choice and there is one; otherwise null: the host. What else is
/// "auto" and depends on the device is settled in `options`. Every rank calls it.
/// \throws ConfigError if train.device = "cuda" cannot be had, or a setting is not for the chosen device
[[nodiscard]] std::unique_ptr<Device> open_gpu(train::RunOptions& options, Runtime& runtime);

}  // namespace spillway::app
