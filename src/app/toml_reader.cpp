// SPDX-License-Identifier: Apache-2.0
#include "app/toml_reader.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <compare>
#include <cstring>
#include <fstream>
#include <sstream>
#include <utility>

#include <fmt/format.h>
#include <toml.hpp>

#include "app/config_lookup.hpp"
#include "core/error.hpp"

namespace spillway::app {
namespace {

struct Place {
  std::size_t line;
  std::size_t column;
  auto operator<=>(const Place&) const = default;
};

/// Where a value starts; for a table of its own, its header.
Place place_of(const toml::value& value) {
  const toml::source_location location = value.location();
  return {location.line(), location.column()};
}

/// Where the key of `value` starts. toml11 keeps places of values only, so it is looked for in front of the value on
/// its line.
Place place_of_key(const toml::value& value, const std::string& key) {
  const toml::source_location location = value.location();
  const std::string line = location.line_str();
  const std::size_t found = line.substr(0, location.column() - 1).rfind(key);
  return {location.line(), found == std::string::npos ? location.column() : found + 1};
}

std::string at(const std::string& name, const Place& place) {
  return fmt::format("{}:{}:{}", name, place.line, place.column);
}

/// toml11 clamps numbers that are too large without a word; the text tells.
void check_fits(const toml::value& value, const std::string& name) {
  const toml::source_location location = value.location();
  std::string text = location.line_str().substr(location.column() - 1, location.region());
  std::erase(text, '_');
  if (text.starts_with('+')) text.erase(0, 1);
  std::from_chars_result result = {};
  if (value.is_floating()) {
    double number = 0;
    result = std::from_chars(text.data(), text.data() + text.size(), number);
  } else {
    std::int64_t number = 0;
    result = std::from_chars(text.data(), text.data() + text.size(), number);
  }
  if (result.ec == std::errc::result_out_of_range) {
    throw ConfigError(fmt::format("{}: {} does not fit a 64-bit number", at(name, place_of(value)), text));
  }
}

ConfigValue converted(const toml::value& value, const std::string& name) {
  switch (value.type()) {
    case toml::value_t::boolean: return {value.as_boolean()};
    case toml::value_t::integer: check_fits(value, name); return {std::int64_t{value.as_integer()}};
    case toml::value_t::floating: check_fits(value, name); return {double{value.as_floating()}};
    case toml::value_t::string: return {std::string(value.as_string().str)};
    case toml::value_t::array: {
      ConfigValue::List list;
      for (const toml::value& item : value.as_array()) list.push_back(converted(item, name));
      return {std::move(list)};
    }
    case toml::value_t::table: return {ConfigValue::Other{"a table"}};
    default: return {ConfigValue::Other{"a date or time"}};
  }
}

toml::value parsed(const std::string& text, const std::string& name) {
  std::istringstream stream(text);
  try {
    return toml::parse(stream, name);
  } catch (const toml::exception& error) {
    const Place place = {error.location().line(), error.location().column()};
    throw ConfigError(fmt::format("{}: not valid TOML\n{}", at(name, place), error.what()));
  } catch (const std::exception& error) {
    throw ConfigError(fmt::format("{}: not valid TOML: {}", name, error.what()));
  }
}

}  // namespace

std::vector<Setting> read_toml_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  errno = 0;
  if (!file || !(text << file.rdbuf())) {
    // An empty file sets failbit too, without errno.
    if (!file.is_open() || errno != 0) {
      throw ConfigError(fmt::format("{}: cannot be read: {}", path, std::strerror(errno != 0 ? errno : ENOENT)));
    }
  }
  return read_toml_text(text.str(), path);
}

std::vector<Setting> read_toml_text(const std::string& text, const std::string& name) {
  const toml::value document = parsed(text, name);
  std::vector<std::pair<Place, Setting>> found;
  std::vector<std::pair<Place, std::string>> problems;
  for (const auto& [section, table] : document.as_table()) {
    if (!table.is_table()) {
      problems.emplace_back(place_of_key(table, section), not_a_section_message(section));
    } else if (!is_section(section)) {
      problems.emplace_back(place_of(table), unknown_section_message(section));
    } else {
      for (const auto& [key, value] : table.as_table()) {
        if (find_key(section, key) == nullptr) {
          problems.emplace_back(place_of_key(value, key), unknown_key_message(section, key));
        } else {
          const Place place = place_of(value);
          found.emplace_back(place, Setting{section, key, converted(value, name), at(name, place)});
        }
      }
    }
  }
  // toml11 keeps tables in hash order.
  const auto by_place = [](const auto& left, const auto& right) { return left.first < right.first; };
  std::sort(found.begin(), found.end(), by_place);
  std::sort(problems.begin(), problems.end(), by_place);
  if (!problems.empty()) {
    std::string message;
    for (const auto& [place, problem] : problems) {
      message += fmt::format("{}{}: {}", message.empty() ? "" : "\n", at(name, place), problem);
    }
    throw ConfigError(message);
  }
  std::vector<Setting> settings;
  for (auto& [place, setting] : found) settings.push_back(std::move(setting));
  return settings;
}

ConfigValue read_toml_value(const std::string& text) {
  try {
    const toml::value document = parsed("value = " + text, "value");
    if (document.as_table().size() == 1) return converted(document.at("value"), "value");
  } catch (const ConfigError&) {
    // A bare word.
  }
  return {text};
}

}  // namespace spillway::app
