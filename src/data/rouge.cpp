// SPDX-License-Identifier: Apache-2.0
#include "data/rouge.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "data/porter_stemmer.hpp"

namespace spillway::data {
namespace {

using Tokens = std::vector<std::string>;

double f_measure(double hits, double targets, double predictions) {
  if (targets == 0.0 || predictions == 0.0 || hits == 0.0) return 0.0;
  const double precision = hits / predictions;
  const double recall = hits / targets;
  return 2.0 * precision * recall / (precision + recall);
}

double total_tokens(const std::vector<Tokens>& sentences) {
  double total = 0.0;
  for (const Tokens& sentence : sentences) total += static_cast<double>(sentence.size());
  return total;
}

std::map<Tokens, int> ngrams(const Tokens& tokens, std::size_t size) {
  std::map<Tokens, int> counts;
  for (auto first = tokens.begin(); tokens.end() - first >= static_cast<std::ptrdiff_t>(size); ++first)
    ++counts[Tokens(first, first + static_cast<std::ptrdiff_t>(size))];
  return counts;
}

double ngram_score(const Tokens& target, const Tokens& prediction, std::size_t size) {
  const auto wanted = ngrams(target, size);
  const auto found = ngrams(prediction, size);
  int hits = 0;
  for (const auto& [ngram, count] : wanted)
    if (const auto same = found.find(ngram); same != found.end()) hits += std::min(count, same->second);
  const auto number = [&](const Tokens& tokens) {
    return tokens.size() < size ? 0.0 : static_cast<double>(tokens.size() - size + 1);
  };
  return f_measure(hits, number(target), number(prediction));
}

/// Lengths of the longest common subsequences of every two beginnings.
class CommonSubsequences {
 public:
  CommonSubsequences(const Tokens& a, const Tokens& b) : a_(a), b_(b), lengths_((a.size() + 1) * (b.size() + 1), 0) {
    for (std::size_t i = 1; i <= a.size(); ++i)
      for (std::size_t j = 1; j <= b.size(); ++j)
        at(i, j) = a[i - 1] == b[j - 1] ? at(i - 1, j - 1) + 1 : std::max(at(i - 1, j), at(i, j - 1));
  }

  [[nodiscard]] int longest() { return at(a_.size(), b_.size()); }
  /// Places in `a` of one of the longest, the one that rouge-score finds.
  void add_places(std::set<std::size_t>& places) {
    std::size_t i = a_.size();
    std::size_t j = b_.size();
    while (i > 0 && j > 0) {
      if (a_[i - 1] == b_[j - 1]) {
        places.insert(i - 1);
        --i;
        --j;
      } else if (at(i, j - 1) > at(i - 1, j)) {
        --j;
      } else {
        --i;
      }
    }
  }

 private:
  int& at(std::size_t i, std::size_t j) { return lengths_[i * (b_.size() + 1) + j]; }

  const Tokens& a_;
  const Tokens& b_;
  std::vector<int> lengths_;
};

std::vector<Tokens> sentence_tokens(std::string_view text) {
  std::vector<Tokens> sentences;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    if (end > 0) sentences.push_back(rouge_tokens(text.substr(0, end)));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return sentences;
}

/// Each token of the target counts once, however many sentences of the prediction share it (ROUGE 1.5.5).
double summary_score(const std::vector<Tokens>& target, const std::vector<Tokens>& prediction) {
  std::map<std::string, int> left_of_target;
  std::map<std::string, int> left_of_prediction;
  for (const Tokens& sentence : target)
    for (const std::string& token : sentence) ++left_of_target[token];
  for (const Tokens& sentence : prediction)
    for (const std::string& token : sentence) ++left_of_prediction[token];
  int hits = 0;
  for (const Tokens& sentence : target) {
    std::set<std::size_t> places;
    for (const Tokens& other : prediction) CommonSubsequences(sentence, other).add_places(places);
    for (const std::size_t place : places) {
      int& of_target = left_of_target[sentence[place]];
      int& of_prediction = left_of_prediction[sentence[place]];
      if (of_target == 0 || of_prediction == 0) continue;
      --of_target;
      --of_prediction;
      ++hits;
    }
  }
  return f_measure(hits, total_tokens(target), total_tokens(prediction));
}

/// Bytes at `at` that are the capital of an ASCII letter as Python lower-cases, and that letter; 0 bytes for others. Besides A to Z
/// these are the Kelvin sign and the I with a dot.
std::pair<std::size_t, char> lowered(std::string_view text, std::size_t at) {
  const char c = text[at];
  if (c >= 'A' && c <= 'Z') return {1, static_cast<char>(c - 'A' + 'a')};
  if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) return {1, c};
  if (text.substr(at, 3) == "\u212a") return {3, 'k'};
  if (text.substr(at, 2) == "\u0130") return {2, 'i'};
  return {0, ' '};
}

/// Whether the word before a point is no end of a sentence: an initial, or an abbreviation that a name or a number follows.
bool is_abbreviation(std::string_view word) {
  static constexpr std::array<std::string_view, 20> kAbbreviations = {"mr",  "mrs", "ms",  "dr",  "prof", "st",  "jr",
                                                                      "sr",  "vs",  "gen", "col", "lt",   "sgt", "capt",
                                                                      "rep", "sen", "gov", "rev", "no",   "inc"};
  std::string lower;
  for (const char c : word) lower += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  const bool initial = word.size() == 1 && word[0] >= 'A' && word[0] <= 'Z';
  return initial || std::ranges::find(kAbbreviations, lower) != kAbbreviations.end();
}

}  // namespace

std::vector<std::string> rouge_tokens(std::string_view text) {
  std::vector<std::string> tokens;
  std::string word;
  const auto finish = [&] {
    if (!word.empty()) tokens.push_back(word.size() > 3 ? porter_stem(word) : word);
    word.clear();
  };
  for (std::size_t at = 0; at < text.size();) {
    const auto [bytes, letter] = lowered(text, at);
    if (bytes == 0) finish();
    else word += letter;
    // The lower case of the I with a dot is i and a combining dot, which ends the word.
    if (bytes == 2) finish();
    at += std::max<std::size_t>(bytes, 1);
  }
  finish();
  return tokens;
}

Rouge rouge(std::string_view target, std::string_view prediction) {
  const Tokens wanted = rouge_tokens(target);
  const Tokens found = rouge_tokens(prediction);
  return {.rouge1 = ngram_score(wanted, found, 1),
          .rouge2 = ngram_score(wanted, found, 2),
          .rouge_l = f_measure(CommonSubsequences(wanted, found).longest(), static_cast<double>(wanted.size()),
                               static_cast<double>(found.size())),
          .rouge_lsum = summary_score(sentence_tokens(target), sentence_tokens(prediction))};
}

std::string with_sentences_on_lines(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  std::string lines;
  for (std::size_t at = 0; at < text.size();) {
    const char c = text[at];
    lines += c;
    ++at;
    if (c != '.' && c != '!' && c != '?') continue;
    const std::size_t word = lines.find_last_of(" \t\r\n(\"'", lines.size() - 1) + 1;
    if (c == '.' && is_abbreviation(std::string_view(lines).substr(word, lines.size() - 1 - word))) continue;
    while (at < text.size() && std::string_view("\"')]").find(text[at]) != std::string_view::npos) lines += text[at++];
    const std::size_t next = std::min(text.find_first_not_of(kSpace, at), text.size());
    if (next == at || next == text.size()) continue;
    lines += '\n';
    at = next;
  }
  return lines;
}

Rouge corpus_rouge(const std::vector<std::string>& predictions, const std::vector<std::string>& targets) {
  Rouge sum;
  for (std::size_t i = 0; i < predictions.size(); ++i) {
    const Rouge one = rouge(with_sentences_on_lines(targets[i]), with_sentences_on_lines(predictions[i]));
    sum.rouge1 += one.rouge1;
    sum.rouge2 += one.rouge2;
    sum.rouge_l += one.rouge_l;
    sum.rouge_lsum += one.rouge_lsum;
  }
  const double scale = predictions.empty() ? 0.0 : 100.0 / static_cast<double>(predictions.size());
  return {sum.rouge1 * scale, sum.rouge2 * scale, sum.rouge_l * scale, sum.rouge_lsum * scale};
}

}  // namespace spillway::data
