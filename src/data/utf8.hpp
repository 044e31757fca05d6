// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace spillway::data {

/// Length in bytes of the UTF-8 sequence that starts at `at`, 0 if none does (RFC 3629: no overlong forms, no
/// surrogates, nothing above U+10FFFF). at < text.size()
[[nodiscard]] std::size_t utf8_length(std::string_view text, std::size_t at) noexcept;

/// Offset of the first byte that is not part of valid UTF-8; none if all of `text` is valid.
[[nodiscard]] std::optional<std::size_t> find_invalid_utf8(std::string_view text) noexcept;

/// `text` without the bytes that are not part of valid UTF-8 (Python's errors="ignore").
[[nodiscard]] std::string drop_invalid_utf8(std::string_view text);

/// Length in bytes of the white space character that starts at `at`, 0 if none does. White space is what Python's
/// str.isspace() says, so that splitting agrees with str.split(). at < text.size()
[[nodiscard]] std::size_t whitespace_length(std::string_view text, std::size_t at) noexcept;

/// True if `text` is empty or nothing but white space.
[[nodiscard]] bool is_blank(std::string_view text) noexcept;

/// The words of `text` with one space between them: Python's " ".join(text.split()).
[[nodiscard]] std::string join_words(std::string_view text);

/// `text` without the white space at its start, at its end: Python's lstrip(), rstrip().
[[nodiscard]] std::string_view strip_start(std::string_view text) noexcept;
[[nodiscard]] std::string_view strip_end(std::string_view text) noexcept;

}  // namespace spillway::data
