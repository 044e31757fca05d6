// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "app/config_schema.hpp"

namespace spillway::app {

// Bindings for the types that keys have. `Section` and `Member` are the path to the member: &RunOptions::train,
// &TrainOptions::seed.

template <class Member>
struct Bare {
  using type = Member;
};
template <class Member>
struct Bare<std::optional<Member>> {
  using type = Member;
};

/// A binding out of a value's reader (nothing: not what is expected) and its printer. An optional member is left out of
/// print while it is empty.
template <class Options, class Member, class Read, class Print>
KeyBinding bind_member(std::string expected, Options train::RunOptions::*section, Member Options::*member, Read read,
                       Print print) {
  return {std::move(expected),
          [=](const ConfigValue& value, train::RunOptions& options) {
            auto content = read(value);
            if (!content) return false;
            options.*section.*member = static_cast<typename Bare<Member>::type>(*std::move(content));
            return true;
          },
          [=](const train::RunOptions& options) -> std::optional<std::string> {
            const Member& content = options.*section.*member;
            if constexpr (std::is_same_v<Member, typename Bare<Member>::type>) {
              return print(content);
            } else {
              if (!content) return std::nullopt;
              return print(*content);
            }
          }};
}

/// The number in a value, of either kind; nothing if it is not one.
[[nodiscard]] std::optional<double> number_in(const ConfigValue& value);

/// Bounds of a number; without `max`, any finite number.
struct Range {
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  bool min_is_outside = false;
  bool max_is_outside = false;
  [[nodiscard]] bool has(double value) const;
  /// " above 0", " of at least 1 and below 2".
  [[nodiscard]] std::string text() const;
};

template <class Options, class Member>
KeyBinding boolean(Options train::RunOptions::*section, Member Options::*member) {
  return bind_member(
      "true or false", section, member,
      [](const ConfigValue& value) -> std::optional<bool> {
        if (const auto* content = std::get_if<bool>(&value.content)) return *content;
        return std::nullopt;
      },
      [](bool content) { return toml_text({content}); });
}

template <class Options, class Member>
KeyBinding integer(Options train::RunOptions::*section, Member Options::*member, std::int64_t min,
                   std::int64_t max = std::numeric_limits<std::int64_t>::max()) {
  std::string expected = "an integer of at least " + std::to_string(min);
  if (max != std::numeric_limits<std::int64_t>::max()) expected += " and at most " + std::to_string(max);
  return bind_member(
      std::move(expected), section, member,
      [=](const ConfigValue& value) -> std::optional<std::int64_t> {
        const auto* content = std::get_if<std::int64_t>(&value.content);
        if (content == nullptr || *content < min || *content > max) return std::nullopt;
        return *content;
      },
      [](auto content) { return std::to_string(content); });
}

template <class Options, class Member>
KeyBinding number(Options train::RunOptions::*section, Member Options::*member, Range range) {
  return bind_member(
      "a number" + range.text(), section, member,
      [=](const ConfigValue& value) -> std::optional<double> {
        const std::optional<double> content = number_in(value);
        return content && range.has(*content) ? content : std::nullopt;
      },
      [](double content) { return toml_number(content); });
}

template <class Options, class Member>
KeyBinding text(Options train::RunOptions::*section, Member Options::*member, bool may_be_empty = true) {
  KeyBinding binding = bind_member(
      may_be_empty ? "a string" : "a string that is not empty", section, member,
      [=](const ConfigValue& value) -> std::optional<std::string> {
        const auto* content = std::get_if<std::string>(&value.content);
        if (content == nullptr || (content->empty() && !may_be_empty)) return std::nullopt;
        return *content;
      },
      [](const std::string& content) { return toml_string(content); });
  binding.takes_text = true;
  return binding;
}

/// One of some values, each in TOML terms and as the member's enumerator.
template <class Options, class Member>
KeyBinding choice(Options train::RunOptions::*section, Member Options::*member,
                  std::vector<std::pair<ConfigValue, typename Bare<Member>::type>> values) {
  std::string expected;
  for (const auto& [value, content] : values) expected += (expected.empty() ? "" : ", ") + toml_text(value);
  if (values.size() > 1) expected.insert(0, "one of ");
  return bind_member(
      std::move(expected), section, member,
      [values](const ConfigValue& asked) -> std::optional<typename Bare<Member>::type> {
        for (const auto& [value, content] : values) {
          if (value.content.index() == asked.content.index() && toml_text(value) == toml_text(asked)) return content;
        }
        return std::nullopt;
      },
      [values](const auto& current) {
        for (const auto& [value, content] : values) {
          if (content == current) return toml_text(value);
        }
        return std::string();
      });
}

}  // namespace spillway::app
