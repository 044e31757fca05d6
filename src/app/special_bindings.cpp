// SPDX-License-Identifier: Apache-2.0
#include "app/special_bindings.hpp"

#include <array>

#include "app/key_bindings.hpp"
#include "app/units.hpp"

namespace spillway::app {

using namespace train;
using Run = RunOptions;

KeyBinding size(std::uint64_t OffloadOptions::*member) {
  return bind_member(
      "a size that is a multiple of 4KiB, such as \"16MiB\"", &Run::offload, member,
      [](const ConfigValue& value) -> std::optional<std::uint64_t> {
        const auto* content = std::get_if<std::string>(&value.content);
        const auto bytes = content != nullptr ? parse_size(*content) : std::nullopt;
        return bytes && *bytes > 0 && *bytes % 4096 == 0 ? bytes : std::nullopt;
      },
      [](std::uint64_t bytes) { return toml_string(size_text(bytes)); });
}

KeyBinding budget(std::optional<std::uint64_t> MemoryOptions::*member) {
  return {"\"auto\" or a size such as \"24GiB\"",
          [=](const ConfigValue& value, Run& options) {
            const auto* content = std::get_if<std::string>(&value.content);
            if (content == nullptr) return false;
            const auto bytes = parse_size(*content);
            if (!bytes && *content != "auto") return false;
            options.memory.*member = bytes;
            return true;
          },
          [=](const Run& options) {
            const auto& bytes = options.memory.*member;
            return toml_string(bytes ? size_text(*bytes) : "auto");
          }};
}

KeyBinding micro_batch() {
  return bind_member(
      "an integer of at least 1, or \"auto\"", &Run::train, &TrainOptions::per_device_train_batch_size,
      [](const ConfigValue& value) -> std::optional<std::int64_t> {
        if (const auto* samples = std::get_if<std::int64_t>(&value.content); samples != nullptr && *samples >= 1)
          return *samples;
        const auto* word = std::get_if<std::string>(&value.content);
        return word != nullptr && *word == "auto" ? std::optional(TrainOptions::kFastestBatch) : std::nullopt;
      },
      [](std::int64_t samples) {
        return samples == TrainOptions::kFastestBatch ? toml_string("auto") : std::to_string(samples);
      });
}

KeyBinding duration(std::chrono::seconds TrainOptions::*member, std::chrono::seconds least) {
  const std::string limit = least.count() > 0 ? " of at least " + duration_text(least) + "," : std::string();
  return bind_member(
      "a duration" + limit + " such as \"3h50m\"", &Run::train, member,
      [least](const ConfigValue& value) -> std::optional<std::chrono::seconds> {
        const auto* content = std::get_if<std::string>(&value.content);
        const auto asked = content != nullptr ? parse_duration(*content) : std::nullopt;
        return asked && *asked >= least ? asked : std::nullopt;
      },
      [](std::chrono::seconds content) { return toml_string(duration_text(content)); });
}

std::optional<StepInterval> interval_in(const ConfigValue& value) {
  if (const auto* steps = std::get_if<std::int64_t>(&value.content); steps != nullptr && *steps >= 0) return *steps;
  const auto* word = std::get_if<std::string>(&value.content);
  return word != nullptr && *word == "epoch" ? std::optional(StepInterval::epoch()) : std::nullopt;
}

std::string interval_text(const StepInterval& interval) {
  return interval.every_epoch ? toml_string("epoch") : std::to_string(interval.steps);
}

KeyBinding betas() {
  return bind_member(
      "a list of two numbers of at least 0 and below 1", &Run::optimizer, &OptimizerOptions::betas,
      [](const ConfigValue& value) -> std::optional<std::array<double, 2>> {
        const auto* list = std::get_if<ConfigValue::List>(&value.content);
        if (list == nullptr || list->size() != 2) return std::nullopt;
        std::array<double, 2> content = {};
        for (std::size_t i = 0; i < 2; ++i) {
          const auto number = number_in((*list)[i]);
          if (!number || !Range{.min = 0, .max = 1, .max_is_outside = true}.has(*number)) return std::nullopt;
          content[i] = *number;
        }
        return content;
      },
      [](const std::array<double, 2>& content) {
        return toml_text({ConfigValue::List{{content[0]}, {content[1]}}});
      });
}

namespace {

/// A list of strings that are not empty, or the only one as a string.
std::optional<std::vector<std::string>> strings_in(const ConfigValue& value) {
  if (const auto* one = std::get_if<std::string>(&value.content)) {
    return one->empty() ? std::nullopt : std::optional(std::vector{*one});
  }
  const auto* list = std::get_if<ConfigValue::List>(&value.content);
  if (list == nullptr) return std::nullopt;
  std::vector<std::string> content;
  for (const ConfigValue& item : *list) {
    const auto* text = std::get_if<std::string>(&item.content);
    if (text == nullptr || text->empty()) return std::nullopt;
    content.push_back(*text);
  }
  return content;
}

std::string list_text(const std::vector<std::string>& content) {
  ConfigValue::List list;
  for (const std::string& text : content) list.push_back({text});
  return toml_text({list});
}

}  // namespace

KeyBinding folders() {
  return bind_member("a list of directories", &Run::offload, &OffloadOptions::nvme_dirs, strings_in, list_text);
}

KeyBinding data_files(std::vector<std::string> DataOptions::*member) {
  KeyBinding binding = bind_member(
      "a string or a list of strings", &Run::data, member,
      [](const ConfigValue& value) -> std::optional<std::vector<std::string>> {
        const auto* one = std::get_if<std::string>(&value.content);
        return one != nullptr && one->empty() ? std::optional(std::vector<std::string>()) : strings_in(value);
      },
      [](const std::vector<std::string>& content) {
        if (content.size() > 1) return list_text(content);
        return toml_string(content.empty() ? "" : content.front());
      });
  binding.takes_text = true;
  return binding;
}

}  // namespace spillway::app
