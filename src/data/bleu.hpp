// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>

namespace spillway::data {

/// A corpus BLEU score and what it is made of.
struct Bleu {
  double score = 0.0;                  ///< 0 to 100
  std::array<double, 4> precisions{};  ///< of 1-grams to 4-grams, in per cent, smoothed
  double brevity_penalty = 0.0;        ///< 0 to 1
  std::int64_t hypothesis_length = 0;  ///< tokens
  std::int64_t reference_length = 0;

  /// sacreBLEU's line: "BLEU|SIGNATURE = 27.31 58.2/33.1/... (BP = ... ratio = ... hyp_len = ... ref_len = ...)"
  [[nodiscard]] std::string text() const;
};

/// BLEU of whole texts, equal to sacreBLEU 2.6 with its defaults: one reference, mixed case, 13a, exp smoothing.
///   score = brevity_penalty * exp(mean over n = 1..4 of log precision_n)
///   brevity_penalty = exp(1 - reference_length / hypothesis_length) where the hypothesis is shorter, else 1
/// (Papineni et al. 2002; Post 2018, "A Call for Clarity in Reporting BLEU Scores"). UTF-8, an item per segment.
/// \throws Error if the numbers of segments differ
[[nodiscard]] Bleu corpus_bleu(std::span<const std::string> hypotheses, std::span<const std::string> references);

}  // namespace spillway::data
