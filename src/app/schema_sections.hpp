// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "app/config_schema.hpp"

namespace spillway::app {

/// [model] [data] [train] [optimizer] [schedule] [loss_scale]
[[nodiscard]] std::vector<ConfigKey> training_keys();
/// [zero] [memory] [offload] [checkpoint]
[[nodiscard]] std::vector<ConfigKey> storage_keys();
/// [eval] [report]
[[nodiscard]] std::vector<ConfigKey> evaluation_keys();

}  // namespace spillway::app
