// SPDX-License-Identifier: Apache-2.0
#include "data/utf8.hpp"

namespace spillway::data {
namespace {

unsigned byte_at(std::string_view text, std::size_t at) noexcept { return static_cast<unsigned char>(text[at]); }

bool between(unsigned byte, unsigned first, unsigned last) noexcept { return byte >= first && byte <= last; }

}  // namespace

std::size_t utf8_length(std::string_view text, std::size_t at) noexcept {
  const unsigned lead = byte_at(text, at);
  if (lead < 0x80) return 1;
  std::size_t length = 0;
  if (between(lead, 0xC2, 0xDF)) length = 2;
  if (between(lead, 0xE0, 0xEF)) length = 3;
  if (between(lead, 0xF0, 0xF4)) length = 4;
  if (length == 0 || text.size() - at < length) return 0;
  // The second byte's range excludes overlong forms, surrogates and what lies above U+10FFFF.
  const unsigned lowest = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned highest = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  if (!between(byte_at(text, at + 1), lowest, highest)) return 0;
  for (std::size_t i = 2; i < length; ++i) {
    if (!between(byte_at(text, at + i), 0x80, 0xBF)) return 0;
  }
  return length;
}

std::optional<std::size_t> find_invalid_utf8(std::string_view text) noexcept {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = utf8_length(text, at);
    if (length == 0) return at;
    at += length;
  }
  return std::nullopt;
}

std::string drop_invalid_utf8(std::string_view text) {
  std::string kept;
  kept.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = utf8_length(text, at);
    kept.append(text.substr(at, length));
    at += length == 0 ? 1 : length;
  }
  return kept;
}

std::size_t whitespace_length(std::string_view text, std::size_t at) noexcept {
  const unsigned first = byte_at(text, at);
  if (between(first, 0x09, 0x0D) || between(first, 0x1C, 0x20)) return 1;
  if (first == 0xC2 && at + 1 < text.size()) {
    const unsigned second = byte_at(text, at + 1);
    return second == 0x85 || second == 0xA0 ? 2 : 0;
  }
  if (at + 2 >= text.size() || !between(first, 0xE1, 0xE3)) return 0;
  const unsigned code = (first << 16) | (byte_at(text, at + 1) << 8) | byte_at(text, at + 2);
  const bool space = code == 0xE19A80                         // U+1680
                     || between(code, 0xE28080, 0xE2808A)     // U+2000 to U+200A
                     || between(code, 0xE280A8, 0xE280A9)     // U+2028, U+2029
                     || code == 0xE280AF || code == 0xE2819F  // U+202F, U+205F
                     || code == 0xE38080;                     // U+3000
  return space ? 3 : 0;
}

bool is_blank(std::string_view text) noexcept {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = whitespace_length(text, at);
    if (length == 0) return false;
    at += length;
  }
  return true;
}

std::string join_words(std::string_view text) {
  std::string joined;
  joined.reserve(text.size());
  bool gap = false;
  for (std::size_t at = 0; at < text.size();) {
    if (const std::size_t length = whitespace_length(text, at); length > 0) {
      gap = true;
      at += length;
      continue;
    }
    if (gap && !joined.empty()) joined += ' ';
    gap = false;
    joined += text[at++];
  }
  return joined;
}

std::string_view strip_start(std::string_view text) noexcept {
  while (!text.empty()) {
    const std::size_t length = whitespace_length(text, 0);
    if (length == 0) break;
    text.remove_prefix(length);
  }
  return text;
}

std::string_view strip_end(std::string_view text) noexcept {
  std::size_t end = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = whitespace_length(text, at);
    at += length == 0 ? 1 : length;
    if (length == 0) end = at;
  }
  return text.substr(0, end);
}

}  // namespace spillway::data
