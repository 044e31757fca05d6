// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "app/config_value.hpp"

namespace spillway::app {

/// Every `key = value` of a TOML file, in the order of its lines.
/// \throws ConfigError with file, line and column if the file cannot be read, is not TOML, or has sections or keys that
///         do not exist (all of them are named, each with the nearest one that does)
[[nodiscard]] std::vector<Setting> read_toml_file(const std::string& path);

/// The same of a text. \param name  stands for the file's name in origins and messages
[[nodiscard]] std::vector<Setting> read_toml_text(const std::string& text, const std::string& name);

/// One value as the command line and the environment spell it: TOML, or, if it is not TOML, the text itself as a
/// string.
[[nodiscard]] ConfigValue read_toml_value(const std::string& text);

}  // namespace spillway::app
