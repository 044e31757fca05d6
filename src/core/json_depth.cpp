// SPDX-License-Identifier: Apache-2.0
#include "core/json_depth.hpp"

#include <cstddef>

#include <fmt/format.h>

#include "core/error.hpp"

namespace spillway {

void check_json_depth(std::string_view text, const std::string& name, int deepest) {
  int depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string && c == '\\') ++i;
    else if (c == '"') in_string = !in_string;
    else if (!in_string && (c == '}' || c == ']')) --depth;
    else if (!in_string && (c == '{' || c == '[') && ++depth > deepest)
      throw DataError(fmt::format("{}: the JSON nests deeper than {} levels at byte {}", name, deepest, i));
  }
}

}  // namespace spillway
