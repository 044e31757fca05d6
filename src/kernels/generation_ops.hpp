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

/// The `count` best continuations of each item, over the log-softmax of its `beams` rows plus each row's running score:
/// scores[i, c] = row_score[r] + log_softmax(logits[r])[token], sorted descending, ties to the smaller (row, token).
/// logits f32 (items · beams, V), row_scores f32 (items · beams); scores f32 (items, count), rows i32 (items, count) the row that is
/// continued (0 .. items · beams), tokens i32 (items, count).
struct TopContinuations {
  std::int64_t items = 0, beams = 0, count = 0;
  ConstTensorView logits, row_scores;
  TensorView scores, rows, tokens;
};

/// What generation needs besides ModelOps. Same rules: q, k, v, caches, bias table and out are all f32 or all bf16; logits, scores
/// and probabilities are f32.
class GenerationOps {
 public:
  virtual ~GenerationOps() = default;
  virtual void append_to_cache(Queue&, const AppendToCache&) = 0;
  virtual void cached_self_attention(Queue&, const CachedSelfAttention&) = 0;
  virtual void cached_cross_attention(Queue&, const CachedCrossAttention&) = 0;
  virtual void top_continuations(Queue&, const TopContinuations&) = 0;
};

}  // namespace spillway::kernels
