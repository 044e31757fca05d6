// SPDX-License-Identifier: Apache-2.0
#include "app/config_value.hpp"

#include <cmath>

#include <fmt/format.h>

namespace spillway::app {
namespace {

template <class... Cases>
struct Overloaded : Cases... {
  using Cases::operator()...;
};
template <class... Cases>
Overloaded(Cases...) -> Overloaded<Cases...>;

}  // namespace

std::string toml_number(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

std::string toml_string(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') quoted += {'\\', c};
    else if (c == '\n') quoted += "\\n";
    else if (c == '\t') quoted += "\\t";
    else if (byte < 0x20 || byte == 0x7f) quoted += fmt::format("\\u{:04x}", byte);
    else quoted += c;
  }
  return quoted + '"';
}

std::string toml_text(const ConfigValue& value) {
  return std::visit(Overloaded{[](bool content) { return std::string(content ? "true" : "false"); },
                               [](std::int64_t content) { return std::to_string(content); },
                               [](double content) { return toml_number(content); },
                               [](const std::string& content) { return toml_string(content); },
                               [](const ConfigValue::List& content) {
                                 std::string text = "[";
                                 for (const ConfigValue& item : content) {
                                   text += (text.size() > 1 ? ", " : "") + toml_text(item);
                                 }
                                 return text + "]";
                               },
                               [](const ConfigValue::Other& content) { return "(" + content.description + ")"; }},
                    value.content);
}

std::string describe(const ConfigValue& value) {
  const std::string text = toml_text(value);
  return std::visit(
      Overloaded{[&](bool) { return text; }, [&](std::int64_t) { return "the integer " + text; },
                 [&](double) { return "the number " + text; }, [&](const std::string&) { return "the string " + text; },
                 [&](const ConfigValue::List&) { return "the list " + text; },
                 [](const ConfigValue::Other& content) { return content.description; }},
      value.content);
}

}  // namespace spillway::app
