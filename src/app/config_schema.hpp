// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "app/config_value.hpp"
#include "train/run_options.hpp"

namespace spillway::app {

/// How one key goes into and out of RunOptions.
struct KeyBinding {
  /// For messages: `an integer of at least 1`, `one of "auto", "cpu"`.
  std::string expected;
  /// False, and nothing stored, if the value is not what is expected.
  std::function<bool(const ConfigValue&, train::RunOptions&)> read;
  /// The value in TOML; nothing while the key is left to the model's own configuration.
  std::function<std::optional<std::string>(const train::RunOptions&)> print;
  /// Any text will do, so a number on the command line is text too.
  bool takes_text = false;
};

/// One key of the configuration.
struct ConfigKey {
  std::string section;
  std::string key;
  KeyBinding binding;
  /// One line for people, with the unit.
  std::string doc;
  /// For a key that may be absent: the value, in TOML, when the model says nothing either. Otherwise "".
  std::string fallback = {};
  /// False while the key has no effect: such a key is not shown to people.
  bool available = true;
};

/// Every key, in the order of the sections and of the keys in them.
[[nodiscard]] const std::vector<ConfigKey>& config_keys();

}  // namespace spillway::app
