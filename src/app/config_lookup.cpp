// SPDX-License-Identifier: Apache-2.0
#include "app/config_lookup.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "core/edit_distance.hpp"

namespace spillway::app {
namespace {

std::string nearest_section(const std::string& section) {
  return *std::min_element(section_names().begin(), section_names().end(), [&](const auto& left, const auto& right) {
    return edit_distance(section, left) < edit_distance(section, right);
  });
}

/// Of the keys people can set to something; half a step more for another section.
std::string nearest_key(const std::string& section, const std::string& key) {
  const ConfigKey* nearest = nullptr;
  std::size_t least = 0;
  for (const ConfigKey& candidate : config_keys()) {
    if (!candidate.available && candidate.key != key) continue;
    const std::size_t distance = 2 * edit_distance(key, candidate.key) + (candidate.section == section ? 0 : 1);
    if (nearest == nullptr || distance < least) {
      nearest = &candidate;
      least = distance;
    }
  }
  return nearest->section + "." + nearest->key;
}

}  // namespace

const std::vector<std::string>& section_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const ConfigKey& key : config_keys()) {
      if (all.empty() || all.back() != key.section) all.push_back(key.section);
    }
    return all;
  }();
  return names;
}

bool is_section(const std::string& section) {
  return std::find(section_names().begin(), section_names().end(), section) != section_names().end();
}

const ConfigKey* find_key(const std::string& section, const std::string& key) {
  for (const ConfigKey& candidate : config_keys()) {
    if (candidate.section == section && candidate.key == key) return &candidate;
  }
  return nullptr;
}

std::string unknown_key_message(const std::string& section, const std::string& key) {
  return fmt::format("unknown key {}.{}; the nearest is {}", section, key, nearest_key(section, key));
}

std::string unknown_section_message(const std::string& section) {
  return fmt::format("unknown section [{}]; the nearest is [{}]", section, nearest_section(section));
}

std::string not_a_section_message(const std::string& key) {
  if (is_section(key)) return fmt::format("{} is a section: expected [{}] and its keys below", key, key);
  return fmt::format("{} is outside all sections; the nearest key is {}", key, nearest_key("", key));
}

}  // namespace spillway::app
