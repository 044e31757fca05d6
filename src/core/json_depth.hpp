// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace spillway {

/// Far deeper than any file that this program reads, and far from the end of a thread's stack.
inline constexpr int kDeepestJson = 64;

/// For JSON from outside, before it is parsed: copying and printing a parsed value recurse, once for each level.
/// \param name  what the message calls the text
/// \throws DataError if objects and lists nest deeper than `deepest` levels. Whether the text is valid is not asked.
void check_json_depth(std::string_view text, const std::string& name, int deepest = kDeepestJson);

}  // namespace spillway
