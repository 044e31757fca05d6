// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "app/command_line.hpp"

namespace spillway::app {

/// The file that `spillway init` writes. A preset brings no weights, so it starts from random ones.
/// \throws ConfigError if `model` is spelled as a path and no such directory is there
[[nodiscard]] std::string initial_config_text(const std::string& model);

/// Writes it. \throws ConfigError if `output` is a file that is not empty, IoError
void write_initial_config(const InitArguments& arguments);

}  // namespace spillway::app
