// SPDX-License-Identifier: Apache-2.0
#include "app/key_bindings.hpp"

#include <cmath>

#include <fmt/format.h>

namespace spillway::app {

std::optional<double> number_in(const ConfigValue& value) {
  if (const auto* content = std::get_if<double>(&value.content)) return *content;
  if (const auto* content = std::get_if<std::int64_t>(&value.content)) return static_cast<double>(*content);
  return std::nullopt;
}

bool Range::has(double value) const {
  return std::isfinite(value) && (min_is_outside ? value > min : value >= min) &&
         (max_is_outside ? value < max : value <= max);
}

std::string Range::text() const {
  std::string words;
  if (std::isfinite(min)) words += fmt::format(" {} {}", min_is_outside ? "above" : "of at least", min);
  if (std::isfinite(max)) {
    words += fmt::format("{} {} {}", words.empty() ? "" : " and", max_is_outside ? "below" : "at most", max);
  }
  return words;
}

}  // namespace spillway::app
