// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace spillway::data {

/// The tokens of a line as mteval-v13a finds them, with one space between them: sacreBLEU's `13a`. Punctuation of
/// ASCII is cut off, full stops and commas unless a digit stands beside them, a dash after a digit. UTF-8 in and out.
[[nodiscard]] std::string tokenize_13a(std::string_view line);

}  // namespace spillway::data
