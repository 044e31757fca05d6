// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace spillway::app {

/// A value as somebody wrote it, whatever the key expects.
struct ConfigValue {
  using List = std::vector<ConfigValue>;
  /// What no key takes ("a table", "a date").
  struct Other {
    std::string description;
  };
  std::variant<bool, std::int64_t, double, std::string, List, Other> content;
};

/// One `section.key = value`, and who said so: "run.toml:3:8", "SPILLWAY_TRAIN_SEED", "--set", "--num-beams".
struct Setting {
  std::string section;
  std::string key;
  ConfigValue value;
  std::string origin;
};

/// The value in TOML: `"a \"b\""`, `[0.9, 0.999]`. Numbers read back equal.
[[nodiscard]] std::string toml_text(const ConfigValue& value);
/// A double in TOML, shortest text that reads back equal.
[[nodiscard]] std::string toml_number(double value);
/// A string in TOML, quoted.
[[nodiscard]] std::string toml_string(const std::string& text);

/// For messages: `the string "abc"`, `the integer 3`, `true`.
[[nodiscard]] std::string describe(const ConfigValue& value);

}  // namespace spillway::app
