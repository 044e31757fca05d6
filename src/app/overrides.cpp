// SPDX-License-Identifier: Apache-2.0
#include "app/overrides.hpp"

#include <algorithm>
#include <cctype>

#include <fmt/format.h>
#include <unistd.h>

#include "app/config_lookup.hpp"
#include "app/toml_reader.hpp"
#include "core/error.hpp"

namespace spillway::app {
namespace {

constexpr std::string_view kPrefix = "SPILLWAY_";

std::string in_capitals(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return text;
}

std::string in_small_letters(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

}  // namespace

std::vector<std::string> process_environment() {
  std::vector<std::string> lines;
  for (char** line = environ; line != nullptr && *line != nullptr; ++line) lines.emplace_back(*line);
  return lines;
}

Setting setting_from_text(const std::string& section, const std::string& key, const std::string& text,
                          const std::string& origin) {
  const ConfigKey* found = find_key(section, key);
  if (found == nullptr) throw ConfigError(fmt::format("{}: {}", origin, unknown_key_message(section, key)));
  ConfigValue value = read_toml_value(text);
  const bool is_list = std::holds_alternative<ConfigValue::List>(value.content);
  if (found->binding.takes_text && !is_list && !std::holds_alternative<std::string>(value.content)) value = {text};
  return {section, key, std::move(value), origin};
}

std::vector<Setting> settings_from_environment(const std::vector<std::string>& environment) {
  std::vector<Setting> settings;
  for (const std::string& line : environment) {
    const std::size_t equals = line.find('=');
    if (equals == std::string::npos || !line.starts_with(kPrefix)) continue;
    const std::string name = line.substr(0, equals);
    for (const std::string& section : section_names()) {
      const std::string start = std::string(kPrefix) + in_capitals(section) + "_";
      if (!name.starts_with(start)) continue;
      const std::string key = in_small_letters(name.substr(start.size()));
      settings.push_back(setting_from_text(section, key, line.substr(equals + 1), name));
    }
  }
  return settings;
}

std::vector<Setting> settings_from_arguments(const std::vector<std::string>& arguments, const std::string& option) {
  std::vector<Setting> settings;
  for (const std::string& argument : arguments) {
    const std::size_t equals = argument.find('=');
    const std::size_t dot = argument.substr(0, equals).find('.');
    const std::string written = fmt::format("{} {}", option, argument);
    if (equals == std::string::npos || dot == std::string::npos) {
      throw ConfigError(fmt::format("{}: expected section.key=value", written));
    }
    const std::string section = argument.substr(0, dot);
    if (!is_section(section)) throw ConfigError(fmt::format("{}: {}", option, unknown_section_message(section)));
    settings.push_back(
        setting_from_text(section, argument.substr(dot + 1, equals - dot - 1), argument.substr(equals + 1), option));
  }
  return settings;
}

}  // namespace spillway::app
