// SPDX-License-Identifier: Apache-2.0
#include "kernels/generation_checks.hpp"

#include <string_view>

#include <fmt/format.h>

#include "core/error.hpp"

namespace spillway::kernels {
namespace {

/// Messages about one op.
class Checks {
 public:
  explicit Checks(std::string_view op) : op_(op) {}

  void is(std::string_view name, const ConstTensorView& view, DType dtype, const Shape& shape) const {
    if (view && view.dtype() == dtype && view.shape() == shape) return;
    throw Error(fmt::format("{}: {} must be {} {}, got {}", op_, name, name_of(dtype), shape.text(),
                            view ? fmt::format("{} {}", name_of(view.dtype()), view.shape().text()) : "nothing"));
  }
  /// Views into wider rows: their shape says nothing.
  void has_rows(std::string_view name, const ConstTensorView& view, DType dtype, std::int64_t stride,
                std::int64_t width) const {
    if (!view || view.dtype() != dtype)
      throw Error(fmt::format("{}: {} must be given, in {}", op_, name, name_of(dtype)));
    if (stride < width)
      throw Error(fmt::format("{}: {} has a stride of {} for rows of {} elements", op_, name, stride, width));
  }
  /// The dtype that all activations of an op have.
  [[nodiscard]] DType activations(std::string_view name, const ConstTensorView& view) const {
    if (view.dtype() != DType::f32 && view.dtype() != DType::bf16)
      throw Error(fmt::format("{}: {} must be f32 or bf16, got {}", op_, name, name_of(view.dtype())));
    return view.dtype();
  }
  void holds(bool condition, std::string_view what) const {
    if (!condition) throw Error(fmt::format("{}: {} is needed", op_, what));
  }

 private:
  std::string_view op_;
};

}  // namespace

void check(const CachedSelfAttention& op) {
  const Checks checks("cached_self_attention");
  const std::int64_t width = op.heads * op.head_size;
  const DType dtype = checks.activations("q", op.q);
  checks.has_rows("q", op.q, dtype, op.stride, width);
  checks.has_rows("k", op.k, dtype, op.stride, width);
  checks.has_rows("v", op.v, dtype, op.stride, width);
  checks.is("cache_k", op.cache_k, dtype, {op.rows, op.capacity, width});
  checks.is("cache_v", op.cache_v, dtype, {op.rows, op.capacity, width});
  checks.is("ancestry", op.ancestry, DType::i32, {op.rows, op.capacity});
  checks.is("out", op.out, dtype, {op.rows, width});
  checks.is("position", op.position, DType::i32, {1});
  if (op.bias.table) {
    checks.holds(op.bias.table.shape().rank() == 2, "a bias table of rank 2");
    checks.is("bias.table", op.bias.table, dtype, {op.bias.table.extent(0), op.heads});
  }
}

void check(const CachedCrossAttention& op) {
  const Checks checks("cached_cross_attention");
  const std::int64_t width = op.heads * op.head_size;
  const DType dtype = checks.activations("q", op.q);
  checks.is("q", op.q, dtype, {op.rows, width});
  checks.has_rows("k", op.k, dtype, op.k_stride, width);
  checks.has_rows("v", op.v, dtype, op.v_stride, width);
  checks.is("keys.offsets", op.keys.offsets, DType::i32, {op.keys.count + 1});
  checks.is("row_sequence", op.row_sequence, DType::i32, {op.rows});
  checks.is("out", op.out, dtype, {op.rows, width});
}

void check(const LogSoftmax& op) {
  const Checks checks("log_softmax");
  checks.holds(op.scores.shape().rank() == 2, "a matrix of scores");
  checks.is("scores", op.scores, DType::f32, {op.rows, op.scores.extent(1)});
}

void check(const ProcessScores& op) {
  const Checks checks("process_scores");
  checks.holds(op.scores.shape().rank() == 2, "a matrix of scores");
  checks.is("scores", op.scores, DType::f32, {op.rows, op.scores.extent(1)});
  checks.is("tokens", op.tokens, DType::i32, {op.rows, op.capacity});
  checks.is("ancestry", op.ancestry, DType::i32, {op.rows, op.capacity});
  checks.is("position", op.position, DType::i32, {1});
  checks.holds(op.repetition_penalty > 0.0F, "a repetition penalty above 0");
  checks.holds(op.no_repeat_ngram_size >= 0 && op.min_length >= 0, "sizes of at least 0");
  checks.holds(op.end_token >= 0 && op.end_token < op.scores.extent(1), "an end token of the vocabulary");
}

void check(const TopContinuations& op) {
  const Checks checks("top_continuations");
  const std::int64_t rows = op.items * op.beams;
  checks.holds(op.logits.shape().rank() == 2, "a matrix of logits");
  const std::int64_t vocabulary = op.logits.extent(1);
  checks.is("logits", op.logits, DType::f32, {rows, vocabulary});
  checks.is("row_scores", op.row_scores, DType::f32, {rows});
  checks.is("scores", op.scores, DType::f32, {op.items, op.count});
  checks.is("rows", op.rows, DType::i32, {op.items, op.count});
  checks.is("tokens", op.tokens, DType::i32, {op.items, op.count});
  checks.holds(op.count >= 1 && op.count <= op.beams * vocabulary, "a count of 1 to beams times vocabulary");
}

void check(const AdvanceBeams& op) {
  const Checks checks("advance_beams");
  const std::int64_t rows = op.items * op.beams;
  const Shape candidates{op.items, op.count}, hypotheses{op.items, op.beams};
  checks.holds(op.beams >= 1 && op.count >= op.beams, "a count of at least the beams");
  checks.holds(op.max_length >= 2 && op.max_length <= op.capacity, "a max_length of 2 to the capacity");
  checks.is("scores", op.scores, DType::f32, candidates);
  checks.is("rows", op.rows, DType::i32, candidates);
  checks.is("tokens", op.tokens, DType::i32, candidates);
  checks.is("divisors", op.divisors, DType::f64, {op.max_length});
  checks.is("stop", op.stop, DType::i32, {1});
  const BeamState& s = op.state;
  checks.is("state.clock", s.clock, DType::i32, {BeamState::kClockEntries});
  checks.is("state.tokens", s.tokens, DType::i32, {rows});
  checks.is("state.parents", s.parents, DType::i32, {rows});
  checks.is("state.row_scores", s.row_scores, DType::f32, {rows});
  checks.is("state.ancestry", s.ancestry, DType::i32, {rows, op.capacity});
  checks.is("state.token_cache", s.token_cache, DType::i32, {rows, op.capacity});
  checks.is("state.done", s.done, DType::i32, {op.items});
  checks.is("state.finished_count", s.finished_count, DType::i32, {op.items});
  checks.is("state.finished_scores", s.finished_scores, DType::f64, hypotheses);
  checks.is("state.finished_slot", s.finished_slot, DType::i32, hypotheses);
  checks.is("state.finished_length", s.finished_length, DType::i32, hypotheses);
  checks.is("state.finished_source", s.finished_source, DType::i32, hypotheses);
  checks.is("state.finished_tokens", s.finished_tokens, DType::i32, {op.items, op.beams, op.capacity});
}

}  // namespace spillway::kernels
