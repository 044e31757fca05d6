// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "app/config_schema.hpp"

namespace spillway::app {

/// Whatever the value is: the key as a whole belongs to the feature.
[[nodiscard]] MissingFeature asked_when_set(std::string feature);
/// A number above `limit`.
[[nodiscard]] MissingFeature asked_when_above(double limit, std::string feature);
/// One of some values, each with its feature.
[[nodiscard]] MissingFeature asked_by(std::vector<std::pair<ConfigValue, std::string>> values);

}  // namespace spillway::app
