// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace spillway::model {

/// When a beam search of an item ends (transformers' early_stopping).
enum class EarlyStopping {
  no,    // when no open beam can beat the worst finished one at the current length
  yes,   // as soon as num_beams have finished
  never  // like no, but judged at the best length that is still possible
};

struct GenerationOptions {
  int num_beams = 4;              // 1: greedy
  std::int64_t max_length = 128;  // tokens with the start token
  std::int64_t min_length = 0;    // likewise; </s> is impossible before
  double length_penalty = 1.0;    // score = sum of log probabilities / length^penalty
  EarlyStopping early_stopping = EarlyStopping::yes;
  std::int64_t no_repeat_ngram_size = 0;  // tokens; 0: repetition is allowed
  double repetition_penalty = 1.0;        // 1: none; above: tokens seen already are less likely
  int num_return_sequences = 1;           // at most num_beams

  /// True if kernels::ProcessScores has something to do.
  [[nodiscard]] bool processes_scores() const noexcept {
    return min_length > 0 || no_repeat_ngram_size > 0 || repetition_penalty != 1.0;
  }
};

/// A finished sequence: tokens after the start token, </s> included unless max_length cut it.
struct Hypothesis {
  std::vector<std::int32_t> tokens;
  double score = 0.0;  // normalised by length
};

/// The bookkeeping of a batched beam search (transformers 4.40 generation: _beam_search, BeamSearchScorer). Pure: it is given the best
/// continuations of every item and says what every row runs next.
class BeamSearch {
 public:
  BeamSearch(std::int64_t items, const GenerationOptions& options, std::int32_t start_token, std::int32_t end_token,
             std::int32_t pad_token);

  /// Candidates that advance() wants for each item: twice the beams.
  [[nodiscard]] std::int64_t candidates() const noexcept { return 2 * beams_; }
  /// Tokens so far, the start token included.
  [[nodiscard]] std::int64_t length() const noexcept { return length_; }
  /// True when no item needs another token.
  [[nodiscard]] bool done() const;
  /// For each row (items times beams): the token to run next, and the running score.
  [[nodiscard]] const std::vector<std::int32_t>& next_tokens() const noexcept { return tokens_; }
  [[nodiscard]] const std::vector<float>& row_scores() const noexcept { return scores_; }
  /// For each row: the row that it continues.
  [[nodiscard]] const std::vector<std::int32_t>& parents() const noexcept { return parents_; }

  /// Takes the best continuations: (items, candidates()) sorted by score, best first. Rows are counted over all items.
  void advance(std::span<const float> scores, std::span<const std::int32_t> rows, std::span<const std::int32_t> tokens);

  /// num_beams hypotheses of each item, best first; of equal ones the later. Call once, at the end.
  [[nodiscard]] std::vector<std::vector<Hypothesis>> finish();

 private:
  struct Item {
    std::vector<Hypothesis> finished;  // best first
    bool done = false;
  };
  void add(Item& item, std::vector<std::int32_t> tokens, double sum, std::int64_t generated);
  [[nodiscard]] bool is_done(const Item& item, double best_sum) const;

  GenerationOptions options_;
  std::int64_t beams_;
  std::int64_t length_ = 1;
  std::int32_t end_, pad_;
  std::vector<Item> items_;
  std::vector<std::vector<std::int32_t>> histories_;  // of each row, without the start token
  std::vector<std::int32_t> tokens_, parents_;
  std::vector<float> scores_;
};

}  // namespace spillway::model
