// SPDX-License-Identifier: Apache-2.0
#include "data/tokenize_13a.hpp"

#include "data/utf8.hpp"

// The passes below are sacreBLEU's regular expressions, one by one and from left to right without overlap. They look at
// bytes where Python looks at code points: every byte of a longer UTF-8 sequence is "not a digit" and no punctuation,
// so the result is the same.
namespace spillway::data {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_stop(char c) { return c == '.' || c == ','; }

/// [\{-\~\[-\` -\&\(-\+\:-\@\/]
bool is_punctuation(char c) {
  return (c >= '{' && c <= '~') || (c >= '[' && c <= '`') || (c >= ' ' && c <= '&') || (c >= '(' && c <= '+') ||
         (c >= ':' && c <= '@') || c == '/';
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
}

std::string space_punctuation(std::string_view text) {
  std::string spaced;
  spaced.reserve(text.size() * 3 / 2);
  for (const char c : text) {
    if (is_punctuation(c)) {
      spaced += ' ';
      spaced += c;
      spaced += ' ';
    } else {
      spaced += c;
    }
  }
  return spaced;
}

/// Wherever `first` and `second` hold for two neighbours, writes them with a space between and `before` and `after`
/// around them, and goes on behind both.
template <typename First, typename Second>
std::string space_pairs(std::string_view text, First first, Second second, std::string_view before,
                        std::string_view after) {
  std::string spaced;
  spaced.reserve(text.size() * 3 / 2);
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (at + 1 < text.size() && first(text[at]) && second(text[at + 1])) {
      spaced += before;
      spaced += text[at];
      spaced += ' ';
      spaced += text[++at];
      spaced += after;
    } else {
      spaced += text[at];
    }
  }
  return spaced;
}

}  // namespace

std::string tokenize_13a(std::string_view line) {
  const auto is_no_digit = [](char c) { return !is_digit(c); };
  const auto is_dash = [](char c) { return c == '-'; };
  std::string text(line);
  replace_all(text, "<skipped>", "");
  replace_all(text, "-\n", "");
  replace_all(text, "\n", " ");
  replace_all(text, "&quot;", "\"");
  replace_all(text, "&amp;", "&");
  replace_all(text, "&lt;", "<");
  replace_all(text, "&gt;", ">");
  text = space_punctuation(" " + text + " ");
  text = space_pairs(text, is_no_digit, is_stop, "", " ");
  text = space_pairs(text, is_stop, is_no_digit, " ", "");
  text = space_pairs(text, is_digit, is_dash, "", " ");
  return join_words(text);
}

}  // namespace spillway::data
