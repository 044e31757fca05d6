// SPDX-License-Identifier: Apache-2.0
#include <string_view>

#include <fmt/format.h>

#include "core/error.hpp"
#include "kernels/checks.hpp"

namespace spillway::kernels {
namespace {

bool is_number(DType dtype) { return dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::f16; }

/// The checks of one op over flat pieces, which its messages name.
class FlatChecker {
 public:
  FlatChecker(std::string_view op, std::int64_t elements) : op_(op), elements_(elements) {}

  void require(bool fits, std::string_view name, std::string_view expected) const {
    if (!fits) throw Error(fmt::format("{}: {} must be {}", op_, name, expected));
  }

  /// \param wanted  as the message says it
  void require(bool right_dtype, const ConstTensorView& view, std::string_view name, std::string_view wanted,
               std::int64_t elements) const {
    if (!right_dtype || view.elements() != elements || (elements > 0 && !view))
      throw Error(fmt::format("{}: {} must be {} of {} elements, found {}{} of {}", op_, name, wanted, elements,
                              view || view.elements() == 0 ? "" : "no data for ", name_of(view.dtype()),
                              view.elements()));
  }

  void require(const ConstTensorView& view, std::string_view name, DType dtype, std::int64_t elements) const {
    require(view.dtype() == dtype, view, name, name_of(dtype), elements);
  }

  void require_gradient(const ConstTensorView& view) const {
    require(is_number(view.dtype()), view, "gradient", "f32, bf16 or f16", elements_);
  }

  void require(const ParameterView& view) const {
    if (!view.master) return require(view.weight, "a weight without master", DType::f32, elements_);
    const bool split = view.weight.dtype() == DType::bf16;
    require(split || view.weight.dtype() == DType::f16, view.weight, "a weight with master", "bf16 or f16", elements_);
    require(view.master, "master", split ? DType::i16 : DType::f32, elements_);
  }

  /// Also a weight of 16 bits alone.
  void require_to_copy(const ParameterView& view) const {
    const DType dtype = view.weight.dtype();
    if ((dtype != DType::bf16 && dtype != DType::f16) || view.master) return require(view);
    require(view.weight, "weight", dtype, elements_);
  }

  void require(const StateView& view, std::string_view name, const StochasticRounding& rounding) const {
    const DType dtype = view.values.dtype();
    require(dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::u8, view.values, name, "f32, bf16 or u8",
            elements_);
    require(rounding.first >= 0, "rounding.first", "at least 0");
    if (dtype != DType::u8) return;
    require(view.scales, fmt::format("{}.scales", name), DType::f32, state_scales(elements_));
    require(rounding.first % kStateBlock == 0, "rounding.first", "a multiple of 256 for states in u8");
  }

  void require(const MatrixPiece& piece) const {
    if (piece.rows < 1 || piece.columns < 1 || piece.count < 1 || piece.tensor_begin < 0 ||
        piece.tensor_begin + piece.count > piece.rows * piece.columns)
      throw Error(fmt::format("{}: elements {} to {} are no piece of a {} x {} matrix", op_,
                              piece.tensor_begin, piece.tensor_begin + piece.count, piece.rows, piece.columns));
  }

  void require(const AdafactorUpdate& update) const {
    require(update.piece);
    require_gradient(update.gradient.values);
    require(static_cast<bool>(update.row_factors) == static_cast<bool>(update.column_factors) &&
                static_cast<bool>(update.row_factors) != static_cast<bool>(update.exp_avg_sq),
            "the second moment", "both factors or exp_avg_sq");
    if (update.exp_avg_sq) return require(update.exp_avg_sq, "exp_avg_sq", DType::f32, elements_);
    require(update.row_factors, "row_factors", DType::f32, update.piece.rows);
    require(update.column_factors, "column_factors", DType::f32, update.piece.columns);
  }

 private:
  std::string_view op_;
  std::int64_t elements_;
};

}  // namespace

void check(const AdamWStep& op) {
  const FlatChecker checker("adamw", op.parameter.elements());
  checker.require(op.parameter);
  checker.require(op.exp_avg, "exp_avg", op.rounding);
  checker.require(op.exp_avg_sq, "exp_avg_sq", op.rounding);
  checker.require_gradient(op.gradient);
  checker.require(op.step >= 1, "step", "at least 1");
}

void check(const SumOfSquares& op) {
  const FlatChecker checker("sum_of_squares", op.x.elements());
  checker.require(op.block > 0, "block", "at least 1");
  checker.require(is_number(op.x.dtype()), op.x, "x", "f32, bf16 or f16", op.x.elements());
  checker.require(op.partial_sums, "partial_sums", DType::f64, (op.x.elements() + op.block - 1) / op.block);
}

void check(const AdafactorSums& op) {
  const FlatChecker checker("adafactor_sums", op.piece.count);
  checker.require(op.piece);
  if (op.row_sums || op.column_sums) {
    checker.require_gradient(op.gradient.values);
    checker.require(op.row_sums, "row_sums", DType::f64, op.piece.touched_rows());
    checker.require(op.column_sums, "column_sums", DType::f64, op.piece.columns);
  }
  if (op.parameter_sum) {
    checker.require(op.parameter_sum, "parameter_sum", DType::f64, 1);
    checker.require(op.parameter);
  }
}

void check(const AdafactorFactors& op) {
  const std::int64_t rows = op.row_sums.elements(), columns = op.column_sums.elements();
  const FlatChecker checker("adafactor_factors", rows * columns);
  checker.require(rows > 0 && columns > 0, "the matrix", "of at least one element");
  checker.require(op.row_sums, "row_sums", DType::f64, rows);
  checker.require(op.column_sums, "column_sums", DType::f64, columns);
  checker.require(op.exp_avg_sq_row, "exp_avg_sq_row", DType::f32, rows);
  checker.require(op.exp_avg_sq_col, "exp_avg_sq_col", DType::f32, columns);
  checker.require(op.row_factors, "row_factors", DType::f32, rows);
  checker.require(op.column_factors, "column_factors", DType::f32, columns);
}

void check(const AdafactorSecondMoment& op) {
  const FlatChecker checker("adafactor_second_moment", op.exp_avg_sq.elements());
  checker.require(op.exp_avg_sq, "exp_avg_sq", DType::f32, op.exp_avg_sq.elements());
  checker.require_gradient(op.gradient.values);
}

void check(const AdafactorUpdateSum& op) {
  const FlatChecker checker("adafactor_update_sum", op.update.piece.count);
  checker.require(op.update);
  checker.require(op.sum, "sum", DType::f64, 1);
}

void check(const AdafactorStep& op) {
  const FlatChecker checker("adafactor_step", op.update.piece.count);
  checker.require(op.update);
  checker.require(op.parameter);
  checker.require(op.divisor >= 1.0, "divisor", "at least 1");
}

void check(const DecodeParameter& op) {
  const FlatChecker checker("decode_parameter", op.values.elements());
  checker.require(op.values, "values", DType::f32, op.values.elements());
  checker.require_to_copy(op.parameter);
}

void check(const EncodeParameter& op) {
  const FlatChecker checker("encode_parameter", op.values.elements());
  checker.require(op.values, "values", DType::f32, op.values.elements());
  checker.require_to_copy(op.parameter);
}

void check(const DecodeState& op) {
  const FlatChecker checker("decode_state", op.values.elements());
  checker.require(op.values, "values", DType::f32, op.values.elements());
  checker.require(op.state, "state", {});
}

void check(const EncodeState& op) {
  const FlatChecker checker("encode_state", op.values.elements());
  checker.require(op.values, "values", DType::f32, op.values.elements());
  checker.require(op.state, "state", op.rounding);
}

}  // namespace spillway::kernels
