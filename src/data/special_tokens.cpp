// SPDX-License-Identifier: Apache-2.0
#include "data/special_tokens.hpp"

#include <utility>

namespace spillway::data {

void SpecialTokens::add(std::string text, std::int32_t id) { ids_.emplace(std::move(text), id); }

std::vector<SpecialTokens::Part> SpecialTokens::split(std::string_view text) const {
  std::vector<Part> parts;
  std::size_t plain = 0;  // where the plain text that is not yet in a part begins
  std::size_t open = std::string_view::npos;
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (text[at] == '<') open = at;
    if (text[at] != '>' || open == std::string_view::npos) continue;
    const std::string_view candidate = text.substr(open, at + 1 - open);
    if (const auto found = ids_.find(candidate); found != ids_.end()) {
      if (open > plain) parts.push_back({text.substr(plain, open - plain), std::nullopt});
      parts.push_back({candidate, found->second});
      plain = at + 1;
    }
    open = std::string_view::npos;
  }
  if (plain < text.size()) parts.push_back({text.substr(plain), std::nullopt});
  return parts;
}

}  // namespace spillway::data
