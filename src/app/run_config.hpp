// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "app/config_value.hpp"
#include "train/run_options.hpp"

namespace spillway::app {

/// Where a configuration comes from, each over the one before it: defaults, file, environment, command line.
struct ConfigSources {
  /// "": none.
  std::string file;
  /// `NAME=value` lines; process_environment() gives this process's.
  std::vector<std::string> environment;
  std::vector<Setting> arguments;
};

/// The options that the sources say together.
/// \throws ConfigError naming file, line and column, variable or argument for a key that does not exist, a value that
///         is not what the key expects, or one that asks for a feature which this version does not have. A setting that
///         another one replaces is not looked at beyond its key.
[[nodiscard]] train::RunOptions read_run_options(const ConfigSources& sources);

/// The same out of settings in rising precedence.
[[nodiscard]] train::RunOptions run_options_of(const std::vector<Setting>& settings);

/// The options as a configuration file that gives them again; numbers read back equal. Keys that are left to the model
/// are comments, and keys that cannot be anything but their default are left out.
[[nodiscard]] std::string config_text(const train::RunOptions& options);

/// The options as a file for people: every key that exists, with its default or what `options` says, and one line about
/// it.
[[nodiscard]] std::string commented_config_text(const train::RunOptions& options);

}  // namespace spillway::app
