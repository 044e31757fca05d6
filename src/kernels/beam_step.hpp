// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/generation_ops.hpp"

namespace spillway::kernels {

/// What one thread does of a loop: first, first + stride, ...
struct Share {
  std::int64_t first = 0, stride = 1;
};

/// AdvanceBeams for one item at a time, in terms of pointers: the same code on the host and in a kernel, where one thread makes the
/// decisions and all threads of a block copy. Each member function reads what the one before it wrote.
struct BeamStep {
  std::int64_t beams, count, capacity, max_length;
  std::int32_t end_token, pad_token;
  EarlyStopping early_stopping;
  bool longer_scores_higher;
  const float* scores;
  const std::int32_t *rows, *tokens;
  const double* divisors;
  std::int32_t *clock, *next_tokens, *parents, *ancestry, *token_cache, *done;
  float* row_scores;
  std::int32_t *finished_count, *finished_slot, *finished_length, *finished_source, *finished_tokens;
  double* finished_scores;
  std::int32_t* stop;

  [[nodiscard]] constexpr bool is_over() const { return clock[1] != 0; }
  /// Tokens of each open beam once this step is done, the start token included.
  [[nodiscard]] constexpr std::int64_t next_length() const { return clock[0] + 2; }

  /// Decides what the item's rows run next, and which hypotheses finish; one thread.
  /// \returns whether the item is still open
  [[nodiscard]] constexpr bool choose(std::int64_t item, std::int64_t length) const {
    const std::int64_t first = item * beams;
    fill_sources(first);
    if (done[item] != 0) {
      for (std::int64_t row = first; row < first + beams; ++row) set(row, pad_token, row, 0.0F);
      return false;
    }
    std::int64_t beam = 0;
    for (std::int64_t rank = 0; rank < count && beam < beams; ++rank) {
      const std::int64_t candidate = item * count + rank;
      if (tokens[candidate] != end_token) {
        set(first + beam++, tokens[candidate], rows[candidate], scores[candidate]);
      } else if (rank < beams) {
        const std::int64_t slot = finish(item, rows[candidate], scores[candidate], length - 1);
        if (slot >= 0) finished_tokens[slot * capacity + length - 2] = end_token;
      }
    }
    if (!is_done(item, scores[item * count], length)) return true;
    done[item] = 1;
    return false;
  }

  /// Fills the slots that choose() or close() gave to hypotheses with the first `filled` tokens of their rows.
  constexpr void copy_finished(std::int64_t item, std::int64_t filled, Share share) const {
    for (std::int64_t slot = item * beams; slot < (item + 1) * beams; ++slot) {
      const std::int64_t row = finished_source[slot];
      if (row < 0) continue;
      for (std::int64_t j = share.first; j < filled; j += share.stride)
        finished_tokens[slot * capacity + j] = token_cache[ancestry[row * capacity + j + 1] * capacity + j + 1];
    }
  }

  /// Makes each row's ancestry that of its parent, with its new token as the last.
  /// \param staged  a place for `beams` numbers, `pitch` apart, of this share's own
  constexpr void reorder(std::int64_t item, std::int64_t length, Share share, std::int32_t* staged,
                         std::int64_t pitch) const {
    const std::int64_t first = item * beams;
    for (std::int64_t j = share.first; j < length; j += share.stride) {
      for (std::int64_t beam = 0; beam < beams; ++beam)
        staged[beam * pitch] =
            j < length - 1 ? ancestry[parents[first + beam] * capacity + j] : static_cast<std::int32_t>(first + beam);
      for (std::int64_t beam = 0; beam < beams; ++beam) ancestry[(first + beam) * capacity + j] = staged[beam * pitch];
    }
    for (std::int64_t row = first + share.first; row < first + beams; row += share.stride)
      token_cache[row * capacity + length - 1] = next_tokens[row];
  }

  /// At max_length: what is open is finished; one thread.
  constexpr void close(std::int64_t item, std::int64_t length) const {
    fill_sources(item * beams);
    for (std::int64_t row = item * beams; row < (item + 1) * beams; ++row)
      static_cast<void>(finish(item, row, row_scores[row], length - 1));
    done[item] = 1;
  }

  /// When all items are through; one thread.
  constexpr void tick(std::int64_t length, bool all_done) const {
    clock[0] = static_cast<std::int32_t>(length - 1);
    if (!all_done) return;
    clock[1] = 1;
    *stop = 1;
  }

 private:
  constexpr void fill_sources(std::int64_t first) const {
    for (std::int64_t slot = first; slot < first + beams; ++slot) finished_source[slot] = -1;
  }
  constexpr void set(std::int64_t row, std::int32_t token, std::int64_t parent, float score) const {
    next_tokens[row] = token;
    parents[row] = static_cast<std::int32_t>(parent);
    row_scores[row] = score;
  }
  /// Puts a hypothesis of `generated` tokens among the item's best. \returns its slot, -1 if it is not one of them
  [[nodiscard]] constexpr std::int64_t finish(std::int64_t item, std::int64_t row, float sum,
                                              std::int64_t generated) const {
    double* const best = finished_scores + item * beams;
    std::int32_t* const slots = finished_slot + item * beams;
    const double score = static_cast<double>(sum) / divisors[generated];
    const std::int64_t kept = finished_count[item];
    const bool full = kept == beams;
    if (full && score <= best[kept - 1]) return -1;
    const std::int64_t slot = full ? slots[kept - 1] : item * beams + kept;
    std::int64_t place = 0;
    while (place < kept && !(best[place] <= score)) ++place;
    for (std::int64_t k = full ? kept - 1 : kept; k > place; --k) {
      best[k] = best[k - 1];
      slots[k] = slots[k - 1];
    }
    // A full list whose scores are not comparable keeps what it has.
    if (place == beams) return -1;
    best[place] = score;
    slots[place] = static_cast<std::int32_t>(slot);
    finished_length[slot] = static_cast<std::int32_t>(generated);
    finished_source[slot] = static_cast<std::int32_t>(row);
    if (!full) finished_count[item] = static_cast<std::int32_t>(kept + 1);
    return slot;
  }
  [[nodiscard]] constexpr bool is_done(std::int64_t item, float best_sum, std::int64_t length) const {
    if (finished_count[item] < beams) return false;
    if (early_stopping == EarlyStopping::yes) return true;
    // The lengths at which an open beam is judged count tokens after the start token.
    const bool at_longest = early_stopping == EarlyStopping::never && longer_scores_higher;
    const std::int64_t generated = at_longest ? max_length - 1 : length - 1;
    return finished_scores[(item + 1) * beams - 1] >= static_cast<double>(best_sum) / divisors[generated];
  }
};

/// The op, which has been checked, in terms of pointers.
[[nodiscard]] inline BeamStep beam_step_of(const AdvanceBeams& op) {
  const auto floats = [](const TensorView& view) { return reinterpret_cast<float*>(view.data()); };
  const auto ints = [](const TensorView& view) { return reinterpret_cast<std::int32_t*>(view.data()); };
  const auto const_ints = [](const ConstTensorView& view) {
    return reinterpret_cast<const std::int32_t*>(view.data());
  };
  const BeamState& s = op.state;
  return {.beams = op.beams,
          .count = op.count,
          .capacity = op.capacity,
          .max_length = op.max_length,
          .end_token = op.end_token,
          .pad_token = op.pad_token,
          .early_stopping = op.beams == 1 ? EarlyStopping::yes : op.early_stopping,
          .longer_scores_higher = op.length_penalty > 0.0,
          .scores = reinterpret_cast<const float*>(op.scores.data()),
          .rows = const_ints(op.rows),
          .tokens = const_ints(op.tokens),
          .divisors = reinterpret_cast<const double*>(op.divisors.data()),
          .clock = ints(s.clock),
          .next_tokens = ints(s.tokens),
          .parents = ints(s.parents),
          .ancestry = ints(s.ancestry),
          .token_cache = ints(s.token_cache),
          .done = ints(s.done),
          .row_scores = floats(s.row_scores),
          .finished_count = ints(s.finished_count),
          .finished_slot = ints(s.finished_slot),
          .finished_length = ints(s.finished_length),
          .finished_source = ints(s.finished_source),
          .finished_tokens = ints(s.finished_tokens),
          .finished_scores = reinterpret_cast<double*>(s.finished_scores.data()),
          .stop = ints(op.stop)};
}

}  // namespace spillway::kernels
