// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "app/config_value.hpp"

namespace spillway::app {

/// The settings among `NAME=value` lines of an environment: SPILLWAY_SECTION_KEY in capitals. Other variables are
/// passed over, unless they start with SPILLWAY_ and a section's name.
/// \throws ConfigError naming a variable whose key does not exist, and the nearest one
[[nodiscard]] std::vector<Setting> settings_from_environment(const std::vector<std::string>& environment);

/// This process's environment as `NAME=value` lines.
[[nodiscard]] std::vector<std::string> process_environment();

/// The settings of `section.key=value` texts. \param option  the flag that they came with, for messages: "--set"
/// \throws ConfigError naming the flag and the text if it has no such form or no such key
[[nodiscard]] std::vector<Setting> settings_from_arguments(const std::vector<std::string>& arguments,
                                                           const std::string& option);

/// One setting whose value is spelled as on a command line: TOML, or a bare word. A key that takes any text takes a
/// number or a date as text too. \throws ConfigError if there is no such key
[[nodiscard]] Setting setting_from_text(const std::string& section, const std::string& key, const std::string& text,
                                        const std::string& origin);

}  // namespace spillway::app
