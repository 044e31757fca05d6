// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/model_ops.hpp"

namespace spillway::kernels {

/// One new token's self-attention against the cache, for R rows (items times beams). Position `position` of row r has just been
/// written to cache row r; position j < position of row r lies in cache row ancestry[r, j].
/// q (R, heads · head_size) with q_stride; cache_k, cache_v (R, capacity, heads · head_size); ancestry i32 (R, capacity);
/// out (R, heads · head_size). The bias is that of query `position` against keys 0..position.
struct CachedSelfAttention {
  std::int64_t rows = 0, capacity = 0, position = 0, heads = 0, head_size = 0;
  ConstTensorView q;
  std::int64_t q_stride = 0;
  ConstTensorView cache_k, cache_v, ancestry;
  RelativeBias bias;
  TensorView out;
};

/// Writes k and v of the token at `position` of every row into the caches. k, v (R, width) with `stride`.
struct AppendToCache {
  std::int64_t rows = 0, capacity = 0, position = 0, width = 0;
  ConstTensorView k, v;
  std::int64_t stride = 0;
  TensorView cache_k, cache_v;
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
/// of each row's next token. s is a score, "seen" the row's `length` tokens so far, the start token included.
/// 1. repetition_penalty p (1: none): every token seen, once: s < 0 ? s · p : s / p (Keskar et al. 2019, section 4.1).
/// 2. no_repeat_ngram_size n (0: none): -infinity for each token that would complete an n-gram which is among the tokens seen.
/// 3. min_length: -infinity for end_token while length < min_length.
/// Token j < length of row r is tokens[ancestry[r, j], j], so that nothing of it need leave the device when beams are reordered.
/// scores f32 (R, V); tokens, ancestry i32 (R, capacity), ids in 0 .. V.
struct ProcessScores {
  std::int64_t rows = 0, capacity = 0, length = 0;
  ConstTensorView tokens, ancestry;
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

/// What generation needs besides ModelOps. Same rules: q, k, v, caches, bias table and out are all f32, all bf16 or (GPU) all f16;
/// logits, scores and probabilities are f32.
class GenerationOps {
 public:
  virtual ~GenerationOps() = default;
  virtual void append_to_cache(Queue&, const AppendToCache&) = 0;
  virtual void cached_self_attention(Queue&, const CachedSelfAttention&) = 0;
  virtual void cached_cross_attention(Queue&, const CachedCrossAttention&) = 0;
  virtual void log_softmax(Queue&, const LogSoftmax&) = 0;
  virtual void process_scores(Queue&, const ProcessScores&) = 0;
  virtual void top_continuations(Queue&, const TopContinuations&) = 0;
};

}  // namespace spillway::kernels
