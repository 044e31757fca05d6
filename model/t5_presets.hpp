// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "model/t5_config.hpp"

namespace spillway::model {

/// The shapes of released models by name: T5, T5 v1.1 (FLAN has the same), mT5, ByT5.
[[nodiscard]] const std::vector<std::string>& preset_names();

/// One of preset_names(). \throws ConfigError with the nearest name
[[nodiscard]] T5Config t5_preset(const std::string& name);

}  // namespace spillway::model
