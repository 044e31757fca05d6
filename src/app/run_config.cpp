// SPDX-License-Identifier: Apache-2.0
#include "app/run_config.hpp"

#include <map>

#include <fmt/format.h>

#include "app/config_lookup.hpp"
#include "app/overrides.hpp"
#include "app/toml_reader.hpp"
#include "core/error.hpp"

namespace spillway::app {
namespace {

void apply(const ConfigKey& key, const Setting& setting, train::RunOptions& options) {
  const std::string where =
      fmt::format("{}: {}.{} = {}", setting.origin, key.section, key.key, toml_text(setting.value));
  if (!key.binding.read(setting.value, options)) {
    throw ConfigError(fmt::format("{}: expected {}, found {}", where, key.binding.expected, describe(setting.value)));
  }
}

/// `key = value`, or `# key = value` for a key that the model decides on.
std::string assignment(const ConfigKey& key, const train::RunOptions& options) {
  const auto value = key.binding.print(options);
  return value ? fmt::format("{} = {}", key.key, *value) : fmt::format("# {} = {}", key.key, key.fallback);
}

}  // namespace

train::RunOptions run_options_of(const std::vector<Setting>& settings) {
  std::map<const ConfigKey*, const Setting*> winners;
  for (const Setting& setting : settings) winners[find_key(setting.section, setting.key)] = &setting;
  train::RunOptions options;
  for (const Setting& setting : settings) {
    const ConfigKey* key = find_key(setting.section, setting.key);
    if (winners.at(key) == &setting) apply(*key, setting, options);
  }
  return options;
}

train::RunOptions read_run_options(const ConfigSources& sources) {
  std::vector<Setting> settings;
  if (!sources.file.empty()) settings = read_toml_file(sources.file);
  for (Setting& setting : settings_from_environment(sources.environment)) settings.push_back(std::move(setting));
  settings.insert(settings.end(), sources.arguments.begin(), sources.arguments.end());
  return run_options_of(settings);
}

std::string config_text(const train::RunOptions& options) {
  const train::RunOptions defaults;
  std::string text;
  for (const std::string& section : section_names()) {
    std::string lines;
    for (const ConfigKey& key : config_keys()) {
      if (key.section != section) continue;
      if (!key.available && key.binding.print(options) == key.binding.print(defaults)) continue;
      const bool decided = key.binding.print(options).has_value();
      lines +=
          assignment(key, options) + (decided ? "\n" : "  # unless the model's generation_config says otherwise\n");
    }
    if (!lines.empty()) text += fmt::format("{}[{}]\n{}", text.empty() ? "" : "\n", section, lines);
  }
  return text;
}

std::string commented_config_text(const train::RunOptions& options) {
  std::string text =
      "# Every key of this version, with its default. Without a value of its own, a key in a comment takes the one of "
      "the\n"
      "# model's eval.task, then that of its generation_config.json, and then this one.\n";
  for (const std::string& section : section_names()) {
    std::string lines;
    for (const ConfigKey& key : config_keys()) {
      if (key.section == section && key.available)
        lines += fmt::format("{:<36} # {}\n", assignment(key, options), key.doc);
    }
    if (!lines.empty()) text += fmt::format("\n[{}]\n{}", section, lines);
  }
  return text;
}

}  // namespace spillway::app
