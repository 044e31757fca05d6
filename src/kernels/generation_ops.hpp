// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/model_ops.hpp"

namespace spillway::kernels {

// `position` below is an i32 of one element beside the other tensors: that of the token being made, counted from the start token's 0.
// The queue reads it when the op runs, so that one recording of a token's work serves every token.

/// One new token's self-attention against the cache, for R rows (items times beams): its k and v are written to `position` of cache
/// row r first; position j < position of row r lies in cache row ancestry[r, j].
/// q, k, v (R, heads · head_size), `stride` elements from row to row; cache_k, cache_v (R, capacity, heads · head_size);
/// ancestry i32 (R, capacity); out (R, heads · head_size). The bias is that of query `position` against keys 0..position.
struct CachedSelfAttention {
  std::int64_t rows = 0, capacity = 0, heads = 0, head_size = 0;
  ConstTensorView position;
  ConstTensorView q, k, v;
  std::int64_t stride = 0;
  TensorView cache_k, cache_v;
  ConstTensorView ancestry;
  RelativeBias bias;
  TensorView out;
};

/// One query per row against all keys of the row's source sequence: row r attends to sequence row_sequence[r] of `keys`.
/// q (R, heads · head_size), k and v (Nk, ...) with k_stride, v_stride; row_sequence i32 (R); out (R, heads · head_size). No bias.
struct CachedCrossAttention {
  PackedSequences keys;
  std::int64_t rows = 0, heads = 0, head_size = 0;
  ConstTensorView q, k, v, row_sequence;
  std::int64_t k_stride = 0, v_stride = 0;
  TensorView out;
};

/// scores[r] = log_softmax(scores[r]) in place. scores f32 (R, V).
struct LogSoftmax {
  std::int64_t rows = 0;
  TensorView scores;
};

/// What keeps a row from repeating itself and from ending early: transformers' logits processors in its order, in place on the scores
/// of each row's next token. s is a score, "seen" the row's length = position + 1 tokens so far, the start token included.
/// 1. repetition_penalty p (1: none): every token seen, once: s < 0 ? s · p : s / p (Keskar et al. 2019, section 4.1).
/// 2. no_repeat_ngram_size n (0: none): -infinity for each token that would complete an n-gram which is among the tokens seen.
/// 3. min_length: -infinity for end_token while length < min_length.
/// Token j < length of row r is tokens[ancestry[r, j], j], so that nothing of it need leave the device when beams are reordered.
/// scores f32 (R, V); tokens, ancestry i32 (R, capacity), ids in 0 .. V.
struct ProcessScores {
  std::int64_t rows = 0, capacity = 0;
  ConstTensorView position, tokens, ancestry;
  float repetition_penalty = 1.0F;
  std::int64_t no_repeat_ngram_size = 0, min_length = 0;
  std::int32_t end_token = 1;
  TensorView scores;
};

/// The `count` best continuations of each item, over the log-softmax of its `beams` rows plus each row's running score:
/// scores[i, c] = row_score[r] + log_softmax(logits[r])[token], sorted descending, ties to the smaller (row, token).
/// `normalised`: the logits are a log-softmax already, or one that was processed, and are taken as they are.
/// logits f32 (items · beams, V), row_scores f32 (items · beams); scores f32 (items, count), rows i32 (items, count) the row that is
/// continued (0 .. items · beams), tokens i32 (items, count).
struct TopContinuations {
  std::int64_t items = 0, beams = 0, count = 0;
  bool normalised = false;
  ConstTensorView logits, row_scores;
  TensorView scores, rows, tokens;
};

/// When a beam search of an item ends (transformers' early_stopping).
enum class EarlyStopping {
  no,    // when no open beam can beat the worst finished one at the current length
  yes,   // as soon as as many have finished as there are beams
  never  // like no, but judged at the best length that is still possible
};

/// Where a batched beam search is, for I items of B beams: R = I · B rows. `capacity` counts tokens with the start token. The first
/// group is what the next token is made from, the second the finished hypotheses of each item, without their start tokens.
struct BeamState {
  TensorView clock;  // i32 (kClockEntries): position, whether all is over, how many blocks of a GPU are through
  TensorView tokens, parents;  // i32 (R): to be run next, and the row that each continues
  TensorView row_scores;       // f32 (R)
  TensorView ancestry,
      token_cache;  // i32 (R, capacity): token j <= position of row r is token_cache[ancestry[r, j], j]
  TensorView done;  // i32 (I): not 0 if the item needs no other token

  TensorView finished_count;                    // i32 (I)
  TensorView finished_scores, finished_slot;    // f64, i32 (I, B): best first; where the tokens are
  TensorView finished_length, finished_source;  // i32 (I, B), of slots; the row that a slot is filled from in this step
  TensorView finished_tokens;                   // i32 (I, B, capacity), of slots

  static constexpr std::int64_t kClockEntries = 3;
};

/// Takes the best continuations of every item that is not done and makes them the tokens to be run next, as transformers 4.40 does
/// (generation: _beam_search, BeamSearchScorer). </s> among the first `beams` candidates finishes a hypothesis of that beam, which is
/// kept if it is among the item's `beams` best: score = sum of log probabilities / length^length_penalty; of equal ones the later is
/// better. Ancestry follows the beams, and position becomes that of the new tokens. At max_length the open beams of an item are
/// hypotheses too. When all items are done, `stop` becomes 1 and later calls change nothing.
/// One beam is greedy search, which ends at its first </s> whatever early_stopping says.
/// scores f32, rows and tokens i32 (I, count), as TopContinuations leaves them, count at least 2 · beams or all that there are;
/// divisors f64 (max_length): length^length_penalty; stop i32 (1), which the host may read while the queue goes on.
struct AdvanceBeams {
  std::int64_t items = 0, beams = 0, count = 0, capacity = 0, max_length = 0;
  std::int32_t end_token = 1, pad_token = 0;
  EarlyStopping early_stopping = EarlyStopping::no;
  double length_penalty = 1.0;
  ConstTensorView scores, rows, tokens, divisors;
  BeamState state;
  TensorView stop;
};

/// What generation needs besides ModelOps. Same rules: q, k, v, caches, bias table and out are all f32 or all bf16; logits, scores
/// and probabilities are f32.
class GenerationOps {
 public:
  virtual ~GenerationOps() = default;
  virtual void cached_self_attention(Queue&, const CachedSelfAttention&) = 0;
  virtual void cached_cross_attention(Queue&, const CachedCrossAttention&) = 0;
  virtual void log_softmax(Queue&, const LogSoftmax&) = 0;
  virtual void process_scores(Queue&, const ProcessScores&) = 0;
  virtual void top_continuations(Queue&, const TopContinuations&) = 0;
  virtual void advance_beams(Queue&, const AdvanceBeams&) = 0;
  /// \throws DataError if log_softmax or top_continuations met logits with NaN or infinity, once the host has waited for them. The
  ///                   host's own form throws it in the queue.
  virtual void check_logits() = 0;
};

}  // namespace spillway::kernels
