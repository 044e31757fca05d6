// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace spillway::data {

/// F-measures from 0 to 1. rouge_lsum: the longest common subsequence over sentences.
struct Rouge {
  double rouge1 = 0.0, rouge2 = 0.0, rouge_l = 0.0, rouge_lsum = 0.0;
};

/// What ROUGE compares: runs of a-z and 0-9 of the lower-cased text, those of more than three letters as their stems
/// (rouge-score's DefaultTokenizer with use_stemmer).
[[nodiscard]] std::vector<std::string> rouge_tokens(std::string_view text);

/// One pair (Lin 2004; rouge-score's RougeScorer with use_stemmer).
/// \param target, prediction  UTF-8; for rouge_lsum lines are sentences
[[nodiscard]] Rouge rouge(std::string_view target, std::string_view prediction);

/// The text with a line end between its sentences: after . ! ? with what closes quotes and brackets, before white space, unless the
/// point ends an initial or a common abbreviation.
[[nodiscard]] std::string with_sentences_on_lines(std::string_view text);

/// Means over all pairs of a corpus, times 100; each text is one paragraph that is split into sentences here. Zeros without pairs.
/// \param predictions, targets  as many of each, at the same places
[[nodiscard]] Rouge corpus_rouge(const std::vector<std::string>& predictions, const std::vector<std::string>& targets);

}  // namespace spillway::data
