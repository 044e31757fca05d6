// SPDX-License-Identifier: Apache-2.0
#include "kernels/checks.hpp"

#include <string_view>

#include <fmt/format.h>

#include "core/error.hpp"

namespace spillway::kernels {
namespace {

/// The checks of one op, which its messages name.
class Checker {
 public:
  explicit Checker(std::string_view op) : op_(op) {}

  void require(bool fits, std::string_view name, std::string_view expected) const {
    if (!fits) throw Error(fmt::format("{}: {} must be {}", op_, name, expected));
  }

  void require(const ConstTensorView& view, std::string_view name, Shape shape, DType dtype = DType::f32) const {
    if (view.dtype() != dtype || view.shape() != shape || (shape.elements() > 0 && !view))
      throw Error(fmt::format("{}: {} must be {} {}, found {}{} {}", op_, name, name_of(dtype), shape.text(),
                              view || view.elements() == 0 ? "" : "no data for ", name_of(view.dtype()),
                              view.shape().text()));
  }

  /// The same in f32 or in `dtype`: what a product may also be given or asked for in full.
  void require_f32_or(DType dtype, const ConstTensorView& view, std::string_view name, Shape shape) const {
    require(view, name, shape, view.dtype() == DType::f32 ? DType::f32 : dtype);
  }

  /// The dtype that the op's activations and weights have in common.
  [[nodiscard]] DType activations(const ConstTensorView& view, std::string_view name) const {
    if (view.dtype() != DType::f32 && view.dtype() != DType::bf16 && view.dtype() != DType::f16)
      throw Error(fmt::format("{}: {} must be f32, bf16 or f16, found {}", op_, name, name_of(view.dtype())));
    return view.dtype();
  }

  template <typename Op>
  void require_mask(const Op& op, std::int64_t rows, std::int64_t width) const {
    require(op.kind == ActivationKind::relu && !op.gated, "what has a mask", "a relu without a gate");
    require(width % 8 == 0, "the width of what is masked", "a multiple of 8");
    require(op.mask, "mask", {rows, width / 8}, DType::u8);
  }

  void require_rank(const ConstTensorView& view, std::string_view name, int rank) const {
    if (view.shape().rank() != rank)
      throw Error(fmt::format("{}: {} must have {} axes, found shape {}", op_, name, rank, view.shape().text()));
  }

  void require_dropout(const Dropout& dropout, const PackedSequences& sequences, std::int64_t rows) const {
    if (!(dropout.probability >= 0.0F && dropout.probability < 1.0F) || dropout.threshold() >= 65536)
      throw Error(fmt::format("{}: a dropout probability of {} is not in [0, 1)", op_, dropout.probability));
    if (!dropout.active()) return;
    if (sequences.rows != rows)
      throw Error(fmt::format("{}: {} rows, but the sequences have {}", op_, rows, sequences.rows));
    require(sequences.row_sample, "row_sample", {rows}, DType::i32);
    require(sequences.row_position, "row_position", {rows}, DType::i32);
  }

  /// A matrix of column ranges: only that there is one, and that its rows are far enough apart.
  void require_strided(const ConstTensorView& view, std::string_view name, DType dtype, std::int64_t stride,
                       std::int64_t width, std::int64_t rows) const {
    if (view.dtype() != dtype || (rows > 0 && !view) || stride < width)
      throw Error(fmt::format("{}: {} must be {} with a stride of at least {}, found {}{} with {}", op_, name,
                              name_of(dtype), width, view ? "" : "no data for ", name_of(view.dtype()), stride));
  }

 private:
  std::string_view op_;
};

void check_sequences(const Checker& checker, const PackedSequences& sequences) {
  checker.require(sequences.count >= 0 && sequences.rows >= 0, "the number of sequences", "0 or more");
  checker.require(sequences.offsets, "offsets", {sequences.count + 1}, DType::i32);
}

}  // namespace

void check(const Linear& op) {
  const Checker checker("linear");
  checker.require_rank(op.x, "x", 2);
  checker.require_rank(op.w, "w", 2);
  const DType dtype = checker.activations(op.x, "x");
  const std::int64_t rows = op.x.extent(0), in = op.x.extent(1), out = op.w.extent(0);
  checker.require(op.x, "x", {rows, in}, dtype);
  checker.require(op.w, "w", {out, in}, dtype);
  if (op.relu) checker.require(op.y, "y", {rows, out}, dtype);
  else checker.require_f32_or(dtype, op.y, "y", {rows, out});
}

void check(const LinearInputGradient& op) {
  const Checker checker("linear_input_gradient");
  checker.require_rank(op.dy, "dy", 2);
  checker.require_rank(op.w, "w", 2);
  const DType dtype = checker.activations(op.w, "w");
  const std::int64_t rows = op.dy.extent(0), out = op.dy.extent(1), in = op.w.extent(1);
  checker.require_f32_or(dtype, op.dy, "dy", {rows, out});
  checker.require(op.w, "w", {out, in}, dtype);
  checker.require(op.dx, "dx", {rows, in}, dtype);
}

void check(const LinearWeightGradient& op) {
  const Checker checker("linear_weight_gradient");
  checker.require_rank(op.dy, "dy", 2);
  checker.require_rank(op.x, "x", 2);
  const DType dtype = checker.activations(op.x, "x");
  const std::int64_t rows = op.dy.extent(0), out = op.dy.extent(1), in = op.x.extent(1);
  checker.require_f32_or(dtype, op.dy, "dy", {rows, out});
  checker.require(op.x, "x", {rows, in}, dtype);
  const bool may_be_narrow = op.output == Output::overwrite && op.dy.dtype() == dtype;
  checker.require_f32_or(may_be_narrow ? dtype : DType::f32, op.dw, "dw", {out, in});
}

void check(const Embedding& op) {
  const Checker checker("embedding");
  checker.require_rank(op.ids, "ids", 1);
  checker.require_rank(op.table, "table", 2);
  const DType dtype = checker.activations(op.table, "table");
  const std::int64_t rows = op.ids.extent(0), width = op.table.extent(1);
  checker.require(op.ids, "ids", {rows}, DType::i32);
  checker.require(op.table, "table", {op.table.extent(0), width}, dtype);
  checker.require(op.out, "out", {rows, width});
  checker.require_dropout(op.dropout, op.sequences, rows);
}

void check(const EmbeddingGradient& op) {
  const Checker checker("embedding_gradient");
  checker.require_rank(op.ids, "ids", 1);
  checker.require_rank(op.d_table, "d_table", 2);
  const std::int64_t rows = op.ids.extent(0), width = op.d_table.extent(1);
  checker.require(op.ids, "ids", {rows}, DType::i32);
  checker.require(op.d_table, "d_table", {op.d_table.extent(0), width});
  checker.require(op.d_out, "d_out", {rows, width});
  checker.require_dropout(op.dropout, op.sequences, rows);
}

void check(const ResidualNorm& op) {
  const Checker checker("residual_norm");
  checker.require_rank(op.hidden_in, "hidden_in", 2);
  const DType dtype = checker.activations(op.weight, "weight");
  const std::int64_t rows = op.hidden_in.extent(0), width = op.hidden_in.extent(1);
  checker.require(op.hidden_in, "hidden_in", {rows, width});
  checker.require(op.weight, "weight", {width}, dtype);
  checker.require(op.normed, "normed", {rows, width}, dtype);
  checker.require(op.rstd, "rstd", {rows});
  if (op.branch) {
    checker.require(op.branch, "branch", {rows, width}, branch_dtype(dtype));
    checker.require(op.hidden_out, "hidden_out", {rows, width});
    checker.require_dropout(op.dropout, op.sequences, rows);
  }
  if (op.hidden_out) checker.require(op.hidden_out, "hidden_out", {rows, width});
  checker.require_dropout(op.output_dropout, op.sequences, rows);
}

void check(const ResidualNormGradient& op) {
  const Checker checker("residual_norm_gradient");
  checker.require_rank(op.hidden, "hidden", 2);
  const DType dtype = checker.activations(op.weight, "weight");
  const std::int64_t rows = op.hidden.extent(0), width = op.hidden.extent(1);
  checker.require(op.hidden, "hidden", {rows, width});
  checker.require(op.d_normed, "d_normed", {rows, width}, dtype);
  checker.require(op.rstd, "rstd", {rows});
  checker.require(op.weight, "weight", {width}, dtype);
  checker.require(op.d_hidden, "d_hidden", {rows, width});
  checker.require(op.d_weight, "d_weight", {width});
  if (op.d_branch) {
    checker.require(op.d_branch, "d_branch", {rows, width}, dtype);
    checker.require_dropout(op.dropout, op.sequences, rows);
  }
  checker.require_dropout(op.output_dropout, op.sequences, rows);
}

void check(const ResidualAdd& op) {
  const Checker checker("residual_add");
  checker.require_rank(op.branch, "branch", 2);
  const Shape shape = op.branch.shape();
  checker.require_f32_or(DType::bf16, op.branch, "branch", shape);
  checker.require(op.hidden_in, "hidden_in", shape);
  checker.require(op.hidden_out, "hidden_out", shape);
  checker.require_dropout(op.dropout, op.sequences, shape[0]);
}

void check(const ResidualAddGradient& op) {
  const Checker checker("residual_add_gradient");
  checker.require_rank(op.d_hidden, "d_hidden", 2);
  const DType dtype = checker.activations(op.d_branch, "d_branch");
  const Shape shape = op.d_hidden.shape();
  checker.require(op.d_hidden, "d_hidden", shape);
  checker.require(op.d_branch, "d_branch", shape, dtype);
  checker.require_dropout(op.dropout, op.sequences, shape[0]);
}

void check(const Activation& op) {
  const Checker checker("activation");
  checker.require_rank(op.out, "out", 2);
  const DType dtype = checker.activations(op.u, "u");
  const std::int64_t rows = op.out.extent(0), width = op.out.extent(1);
  checker.require(op.out, "out", {rows, width}, dtype);
  checker.require(op.u, "u", {rows, op.gated ? 2 * width : width}, dtype);
  if (op.mask) checker.require_mask(op, rows, width);
  checker.require_dropout(op.dropout, op.sequences, rows);
}

void check(const ActivationGradient& op) {
  const Checker checker("activation_gradient");
  checker.require_rank(op.d_out, "d_out", 2);
  const DType dtype = checker.activations(op.d_out, "d_out");
  const std::int64_t rows = op.d_out.extent(0), width = op.d_out.extent(1);
  checker.require(op.d_out, "d_out", {rows, width}, dtype);
  if (op.mask) {
    checker.require_mask(op, rows, width);
    checker.require(op.du, "du", {rows, width}, dtype);
    return;
  }
  checker.require(op.u, "u", {rows, op.gated ? 2 * width : width}, dtype);
  checker.require(op.du, "du", op.u.shape(), dtype);
  checker.require_dropout(op.dropout, op.sequences, rows);
}

void check(const Attention& op) {
  const Checker checker("attention");
  const DType dtype = checker.activations(op.q, "q");
  checker.require(op.heads > 0 && op.head_size > 0, "heads and head_size", "at least 1");
  check_sequences(checker, op.queries);
  check_sequences(checker, op.keys);
  checker.require(op.queries.count == op.keys.count, "the number of query sequences", "that of the key sequences");
  const std::int64_t width = op.heads * op.head_size;
  checker.require_strided(op.q, "q", dtype, op.q_stride, width, op.queries.rows);
  checker.require_strided(op.k, "k", dtype, op.k_stride, width, op.keys.rows);
  checker.require_strided(op.v, "v", dtype, op.v_stride, width, op.keys.rows);
  checker.require(op.out, "out", {op.queries.rows, width}, dtype);
  if (op.log_sum_exp) checker.require(op.log_sum_exp, "log_sum_exp", {op.queries.rows, op.heads});
  if (op.bias.table) {
    checker.require_rank(op.bias.table, "bias.table", 2);
    checker.require(op.bias.table, "bias.table", {op.bias.table.extent(0), op.heads}, dtype);
  }
  checker.require_dropout(op.dropout, op.queries, op.queries.rows);
}

void check(const AttentionGradient& op) {
  const Attention& forward = op.forward;
  check(forward);
  const Checker checker("attention_gradient");
  const DType dtype = forward.q.dtype();
  const std::int64_t width = forward.heads * forward.head_size;
  checker.require(forward.log_sum_exp, "log_sum_exp", {forward.queries.rows, forward.heads});
  checker.require(op.d_out, "d_out", {forward.queries.rows, width}, dtype);
  checker.require_strided(op.d_q, "d_q", dtype, forward.q_stride, width, forward.queries.rows);
  checker.require_strided(op.d_k, "d_k", dtype, forward.k_stride, width, forward.keys.rows);
  checker.require_strided(op.d_v, "d_v", dtype, forward.v_stride, width, forward.keys.rows);
  if (forward.bias.table) {
    checker.require(op.d_bias, "d_bias", forward.bias.table.shape());
  } else {
    checker.require(!op.d_bias, "d_bias", "left out where the forward pass had no bias");
  }
}

void check(const CrossEntropy& op) {
  const Checker checker("cross_entropy");
  checker.require_rank(op.logits, "logits", 2);
  const std::int64_t rows = op.logits.extent(0), vocabulary = op.logits.extent(1);
  checker.require(op.logits, "logits", {rows, vocabulary});
  checker.require(op.labels, "labels", {rows}, DType::i32);
  checker.require(op.losses, "losses", {rows});
  if (op.gradient)
    checker.require(op.gradient, "gradient", {rows, vocabulary}, checker.activations(op.gradient, "gradient"));
  checker.require(op.label_smoothing >= 0.0F && op.label_smoothing < 1.0F, "label_smoothing", "in [0, 1)");
}

void check_add(const ConstTensorView& from, const ConstTensorView& to) {
  const Checker checker("add");
  checker.require(to, "to", to.shape());
  checker.require(from, "from", to.shape(), checker.activations(from, "from"));
}

void check_convert(const ConstTensorView& from, const ConstTensorView& to) {
  const Checker checker("convert");
  checker.require(to, "to", to.shape(), checker.activations(to, "to"));
  checker.require(from, "from", to.shape(), checker.activations(from, "from"));
}

}  // namespace spillway::kernels
