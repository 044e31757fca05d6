// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/generation_ops.hpp"
#include "model/activations.hpp"

namespace spillway::model {

using kernels::EarlyStopping;

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
  friend bool operator==(const GenerationOptions&, const GenerationOptions&) = default;
};

/// A finished sequence: tokens after the start token, </s> included unless max_length cut it.
struct Hypothesis {
  std::vector<std::int32_t> tokens;
  double score = 0.0;  // normalised by length
};

/// What kernels::AdvanceBeams works on, for I items.
struct BeamMemory {
  kernels::BeamState state;
  TensorView divisors;                          // f64 (max_length)
  TensorView top_scores, top_rows, top_tokens;  // (I, 2 beams), as TopContinuations leaves them
  TensorView stop;                              // i32 (1)
  TensorView result;                            // all that hypotheses_of() reads, as bytes

  /// The same for fewer items.
  [[nodiscard]] BeamMemory first(std::int64_t items, std::int64_t beams) const;
};

[[nodiscard]] BeamMemory carve_beams(Carver& carver, std::int64_t items, const GenerationOptions& options);

/// Fills host memory with the state in which the first beam of every item runs `start_token`, and no other may go on.
void start_beams(const BeamMemory& host, const GenerationOptions& options, std::int32_t start_token);

/// The op of one step.
[[nodiscard]] kernels::AdvanceBeams advance_of(const BeamMemory& memory, const GenerationOptions& options,
                                               std::int32_t end_token, std::int32_t pad_token);

/// When all is over: num_beams hypotheses of each item, best first. Reads host memory.
[[nodiscard]] std::vector<std::vector<Hypothesis>> hypotheses_of(const BeamMemory& host);

}  // namespace spillway::model
