// SPDX-License-Identifier: Apache-2.0
#include "data/bleu.hpp"

#include <algorithm>
#include <cmath>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <fmt/format.h>

#include "core/error.hpp"
#include "data/tokenize_13a.hpp"
#include "data/utf8.hpp"

namespace spillway::data {
namespace {

constexpr std::size_t kOrders = 4;
constexpr std::string_view kSignature = "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0";

using Counts = std::unordered_map<std::string_view, std::int64_t>;

/// Where each token of `line` begins; tokens have one space between them.
std::vector<std::size_t> token_begins(std::string_view line) {
  std::vector<std::size_t> begins;
  if (line.empty()) return begins;
  begins.push_back(0);
  for (std::size_t at = 0; at < line.size(); ++at) {
    if (line[at] == ' ') begins.push_back(at + 1);
  }
  return begins;
}

/// How often each n-gram occurs. Tokens hold no space, so an n-gram is a stretch of the line.
Counts count_ngrams(std::string_view line, const std::vector<std::size_t>& begins, std::size_t order) {
  Counts counts;
  for (std::size_t first = 0; first + order <= begins.size(); ++first) {
    const std::size_t end = first + order < begins.size() ? begins[first + order] - 1 : line.size();
    ++counts[line.substr(begins[first], end - begins[first])];
  }
  return counts;
}

struct Statistics {
  std::array<std::int64_t, kOrders> correct{};
  std::array<std::int64_t, kOrders> total{};
  std::int64_t hypothesis_length = 0;
  std::int64_t reference_length = 0;

  void add(std::string_view hypothesis, std::string_view reference) {
    const std::string hypothesis_line = tokenize_13a(strip_end(hypothesis));
    const std::string reference_line = tokenize_13a(strip_end(reference));
    const auto hypothesis_begins = token_begins(hypothesis_line);
    const auto reference_begins = token_begins(reference_line);
    hypothesis_length += static_cast<std::int64_t>(hypothesis_begins.size());
    reference_length += static_cast<std::int64_t>(reference_begins.size());
    for (std::size_t n = 0; n < kOrders; ++n) {
      const Counts in_reference = count_ngrams(reference_line, reference_begins, n + 1);
      for (const auto& [ngram, count] : count_ngrams(hypothesis_line, hypothesis_begins, n + 1)) {
        total[n] += count;
        if (const auto found = in_reference.find(ngram); found != in_reference.end()) {
          correct[n] += std::min(count, found->second);
        }
      }
    }
  }
};

double brevity_penalty(std::int64_t hypothesis_length, std::int64_t reference_length) {
  if (hypothesis_length >= reference_length) return 1.0;
  if (hypothesis_length == 0) return 0.0;
  return std::exp(1.0 - static_cast<double>(reference_length) / static_cast<double>(hypothesis_length));
}

/// Percentages; an order without a match counts as 1/2, 1/4, ... of a match. Stays 0 from the first order that the
/// hypotheses are too short for.
std::array<double, kOrders> smoothed_precisions(const Statistics& statistics) {
  std::array<double, kOrders> precisions{};
  double divisor = 1.0;
  for (std::size_t n = 0; n < kOrders && statistics.total[n] > 0; ++n) {
    const auto total = static_cast<double>(statistics.total[n]);
    if (statistics.correct[n] == 0) {
      divisor *= 2.0;
      precisions[n] = 100.0 / (divisor * total);
    } else {
      precisions[n] = 100.0 * static_cast<double>(statistics.correct[n]) / total;
    }
  }
  return precisions;
}

}  // namespace

std::string Bleu::text() const {
  const double ratio =
      reference_length > 0 ? static_cast<double>(hypothesis_length) / static_cast<double>(reference_length) : 0.0;
  return fmt::format(
      "BLEU|{} = {:.2f} {:.1f}/{:.1f}/{:.1f}/{:.1f} "
      "(BP = {:.3f} ratio = {:.3f} hyp_len = {} ref_len = {})",
      kSignature, score, precisions[0], precisions[1], precisions[2], precisions[3], brevity_penalty, ratio,
      hypothesis_length, reference_length);
}

Bleu corpus_bleu(std::span<const std::string> hypotheses, std::span<const std::string> references) {
  if (hypotheses.size() != references.size()) {
    throw Error(fmt::format("BLEU needs a reference for each hypothesis: there are {} hypotheses and {} references",
                            hypotheses.size(), references.size()));
  }
  Statistics statistics;
  for (std::size_t i = 0; i < hypotheses.size(); ++i) statistics.add(hypotheses[i], references[i]);

  Bleu bleu{.brevity_penalty = brevity_penalty(statistics.hypothesis_length, statistics.reference_length),
            .hypothesis_length = statistics.hypothesis_length,
            .reference_length = statistics.reference_length};
  // Without any match smoothing would make a score out of nothing.
  if (std::ranges::all_of(statistics.correct, [](std::int64_t count) { return count == 0; })) return bleu;
  bleu.precisions = smoothed_precisions(statistics);
  double logs = 0.0;
  for (const double precision : bleu.precisions) logs += precision == 0.0 ? -9999999999.0 : std::log(precision);
  bleu.score = bleu.brevity_penalty * std::exp(logs / static_cast<double>(kOrders));
  return bleu;
}

}  // namespace spillway::data
