// SPDX-License-Identifier: Apache-2.0
// ModelOps on bf16: every op against the same op on f32, whose inputs are the same numbers. What is not a sum of many
// products is then the f32 result rounded once, bit for bit.
#include <algorithm>
#include <cmath>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.hpp"
#include "kernels/cpu/cpu_kernels.hpp"
#include "kernels/kernel_fixtures.hpp"

namespace spillway::kernels {
namespace {

using test::Batch;
using test::Matrix;

/// A tensor of bf16 that owns its elements.
struct Half {
  explicit Half(const Matrix& matrix) : rows(matrix.rows), columns(matrix.columns) {
    for (const float value : matrix.values) bits.push_back({bf16_from_float(value)});
  }
  [[nodiscard]] Matrix widened() const {
    Matrix matrix(rows, columns);
    for (std::size_t i = 0; i < bits.size(); ++i) matrix.values[i] = float_from_bf16(bits[i].bits);
    return matrix;
  }
  [[nodiscard]] TensorView view() { return {std::span<BFloat16>(bits), {rows, columns}}; }
  [[nodiscard]] TensorView flat_view() { return {std::span<BFloat16>(bits), {rows * columns}}; }

  std::int64_t rows, columns;
  std::vector<BFloat16> bits;
};

/// The same random numbers in both.
struct Both {
  Both(std::int64_t rows, std::int64_t columns, std::uint64_t stream)
      : half(Matrix::random(rows, columns, stream)), full(half.widened()) {}
  Half half;
  Matrix full;
};

class Bf16Ops : public testing::Test {
 protected:
  static constexpr std::int64_t kRows = 37, kWidth = 147;  // neither full lanes nor a full dropout chunk

  void expect_rounded(const Half& found, const Matrix& full, const std::string& what) const {
    EXPECT_EQ(found.bits, Half(full).bits) << what;
  }
  [[nodiscard]] Both rows(std::uint64_t stream) const { return {kRows, kWidth, stream}; }
  [[nodiscard]] ConstTensorView ids() const { return {std::span<const std::int32_t>(ids_), {kRows}}; }

  std::unique_ptr<ModelOps> ops = cpu::make_model_ops(cpu::make_thread_pool(2));
  std::unique_ptr<Device> host = make_host_device();
  std::unique_ptr<Queue> queue = host->create_compute_queue();
  const Batch batch{kRows};
  const PackedSequences& sequences = batch.sequences;
  const Dropout dropout{.probability = 0.2F, .key = 21, .site = 5};
  const Dropout other_dropout{.probability = 0.1F, .key = 21, .site = 6};
  std::vector<std::int32_t> ids_ = [] {
    std::vector<std::int32_t> list(kRows);
    for (std::size_t i = 0; i < list.size(); ++i) list[i] = static_cast<std::int32_t>(i * 7 % 11);
    return list;
  }();
};

TEST_F(Bf16Ops, Convert_RoundsAndWidens) {
  Matrix numbers = Matrix::random(5, 33, 1), back(5, 33);
  Half half(Matrix(5, 33));

  ops->convert(*queue, numbers.view(), half.view());
  ops->convert(*queue, half.view(), back.view());

  expect_rounded(half, numbers, "rounded");
  EXPECT_EQ(back.values, half.widened().values);
}

TEST_F(Bf16Ops, Add_WidensWhatItAdds) {
  Both from = rows(1);
  Matrix to = Matrix::random(kRows, kWidth, 2), expected = to;

  ops->add(*queue, from.half.view(), to.view());
  ops->add(*queue, from.full.view(), expected.view());

  EXPECT_EQ(to.values, expected.values);
}

TEST_F(Bf16Ops, Embedding_WidensTheTableIntoTheResidualStream) {
  Both table(11, kWidth, 1);
  Matrix out(kRows, kWidth), expected = out;
  const auto run = [&](TensorView table_view, TensorView out_view) {
    ops->embedding(*queue,
                   {.sequences = sequences, .ids = ids(), .table = table_view, .dropout = dropout, .out = out_view});
  };

  run(table.half.view(), out.view());
  run(table.full.view(), expected.view());

  EXPECT_EQ(out.values, expected.values);
}

TEST_F(Bf16Ops, Activation_AndItsGradient) {
  for (const ActivationKind kind : {ActivationKind::relu, ActivationKind::gelu_new}) {
    for (const bool gated : {false, true}) {
      Both u(kRows, gated ? 2 * kWidth : kWidth, 1), d_out = rows(2), out = rows(3);
      const auto run = [&](TensorView u_view, TensorView out_view, TensorView d_out_view) {
        ops->activation(
            *queue,
            {.sequences = sequences, .kind = kind, .gated = gated, .u = u_view, .dropout = dropout, .out = out_view});
        ops->activation_gradient(*queue, {.sequences = sequences,
                                          .kind = kind,
                                          .gated = gated,
                                          .u = u_view,
                                          .d_out = d_out_view,
                                          .dropout = dropout,
                                          .du = u_view});
      };

      run(u.half.view(), out.half.view(), d_out.half.view());
      run(u.full.view(), out.full.view(), d_out.full.view());

      expect_rounded(out.half, out.full, "out");
      expect_rounded(u.half, u.full, "du, in place");
    }
  }
}

// The residual stream is f32: what is added to it is widened, nothing is rounded.
TEST_F(Bf16Ops, ResidualAdd_AndItsGradient) {
  Both branch = rows(2), d_branch = rows(3);
  const Matrix before = Matrix::random(kRows, kWidth, 1);
  Matrix hidden = before, expected = before;
  const auto run = [&](Matrix& stream, TensorView branch_view, TensorView d_branch_view) {
    ops->residual_add_gradient(
        *queue, {.sequences = sequences, .d_hidden = stream.view(), .dropout = dropout, .d_branch = d_branch_view});
    ops->residual_add(*queue, {.sequences = sequences,
                               .hidden_in = stream.view(),
                               .branch = branch_view,
                               .dropout = dropout,
                               .hidden_out = stream.view()});
  };

  run(hidden, branch.half.view(), d_branch.half.view());
  run(expected, branch.full.view(), d_branch.full.view());

  EXPECT_EQ(hidden.values, expected.values);
  expect_rounded(d_branch.half, d_branch.full, "d_branch");
}

TEST_F(Bf16Ops, ResidualNorm_RoundsNothingButWhatItNormalised) {
  Both branch = rows(2), weight(1, kWidth, 3), normed = rows(4);
  const Matrix hidden = Matrix::random(kRows, kWidth, 1);
  Matrix sum = hidden, expected_sum = hidden, rstd(1, kRows), expected_rstd = rstd;
  const auto run = [&](Matrix& stream, TensorView branch_view, TensorView weight_view, TensorView normed_view,
                       Matrix& of_rows) {
    ops->residual_norm(*queue, {.sequences = sequences,
                                .hidden_in = stream.view(),
                                .branch = branch_view,
                                .weight = weight_view,
                                .dropout = dropout,
                                .output_dropout = other_dropout,
                                .hidden_out = stream.view(),
                                .normed = normed_view,
                                .rstd = of_rows.flat_view()});
  };

  run(sum, branch.half.view(), weight.half.flat_view(), normed.half.view(), rstd);
  run(expected_sum, branch.full.view(), weight.full.flat_view(), normed.full.view(), expected_rstd);

  EXPECT_EQ(sum.values, expected_sum.values);
  EXPECT_EQ(rstd.values, expected_rstd.values);
  expect_rounded(normed.half, normed.full, "normed");
}

TEST_F(Bf16Ops, ResidualNormGradient_RoundsNothingButThatOfTheBranch) {
  Both d_normed = rows(2), weight(1, kWidth, 3), d_branch = rows(5);
  Matrix hidden = Matrix::random(kRows, kWidth, 1), rstd = Matrix::random(1, kRows, 6);
  Matrix d_hidden = Matrix::random(kRows, kWidth, 4), expected_d_hidden = d_hidden;
  Matrix d_weight(1, kWidth, 0.5F), expected_d_weight = d_weight;
  const auto run = [&](TensorView d_normed_view, TensorView weight_view, TensorView d_hidden_view,
                       TensorView d_branch_view, TensorView d_weight_view) {
    ops->residual_norm_gradient(*queue, {.sequences = sequences,
                                         .d_normed = d_normed_view,
                                         .hidden = hidden.view(),
                                         .rstd = rstd.flat_view(),
                                         .weight = weight_view,
                                         .dropout = dropout,
                                         .output_dropout = other_dropout,
                                         .d_hidden = d_hidden_view,
                                         .d_branch = d_branch_view,
                                         .d_weight = d_weight_view});
  };

  run(d_normed.half.view(), weight.half.flat_view(), d_hidden.view(), d_branch.half.view(), d_weight.flat_view());
  run(d_normed.full.view(), weight.full.flat_view(), expected_d_hidden.view(), d_branch.full.view(),
      expected_d_weight.flat_view());

  EXPECT_EQ(d_hidden.values, expected_d_hidden.values);
  EXPECT_EQ(d_weight.values, expected_d_weight.values);
  expect_rounded(d_branch.half, d_branch.full, "d_branch");
}

TEST_F(Bf16Ops, CrossEntropyGradientElsewhere_IsTheOneInPlaceRounded) {
  const Both logits = rows(1);
  Matrix in_place = logits.full, scratch = logits.full, full(kRows, kWidth), losses(1, kRows),
         expected_losses(1, kRows);
  Half half(Matrix(kRows, kWidth));
  const auto run = [&](Matrix& on, Matrix& of_rows, TensorView gradient) {
    ops->cross_entropy(*queue, {.logits = on.view(),
                                .labels = ids(),
                                .label_smoothing = 0.1F,
                                .gradient_scale = 0.5F,
                                .losses = of_rows.flat_view(),
                                .gradient = gradient});
  };

  run(in_place, expected_losses, {});
  run(scratch, losses, full.view());
  scratch = logits.full;
  run(scratch, losses, half.view());

  EXPECT_EQ(losses.values, expected_losses.values);
  EXPECT_EQ(full.values, in_place.values);
  expect_rounded(half, in_place, "gradient");
}

TEST_F(Bf16Ops, OperandsOfAnotherDtype_AreRefused) {
  Both x(3, 4, 1), w(2, 4, 2), y(3, 2, 3), eight(3, 8, 4);
  std::vector<std::byte> bytes(24);
  const TensorView f16(bytes.data(), DType::f16, {3, 4});
  const auto message = [](const auto& call) -> std::string {
    try {
      call();
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };

  EXPECT_THAT(message([&] { ops->linear(*queue, {.x = x.half.view(), .w = w.full.view(), .y = y.half.view()}); }),
              testing::HasSubstr("linear: w must be bf16 (2, 4), found f32 (2, 4)"));
  EXPECT_THAT(message([&] { ops->linear(*queue, {.x = x.full.view(), .w = w.full.view(), .y = y.half.view()}); }),
              testing::HasSubstr("linear: y must be f32 (3, 2), found bf16 (3, 2)"));
  EXPECT_THAT(message([&] {
                ops->linear_weight_gradient(*queue, {.dy = y.half.view(), .x = x.half.view(), .dw = w.half.view()});
              }),
              testing::HasSubstr("linear_weight_gradient: dw must be f32"));
  EXPECT_THAT(message([&] {
                ops->linear_weight_gradient(
                    *queue,
                    {.dy = y.full.view(), .x = x.half.view(), .dw = w.half.view(), .output = Output::overwrite});
              }),
              testing::HasSubstr("linear_weight_gradient: dw must be f32"));
  EXPECT_THAT(message([&] { ops->convert(*queue, x.full.view(), f16); }),
              testing::HasSubstr("on the CPU activations are f32 or bf16, found f16"));
  EXPECT_THAT(message([&] { ops->add(*queue, x.full.view(), x.half.view()); }),
              testing::HasSubstr("add: to must be f32 (3, 4), found bf16 (3, 4)"));
  EXPECT_THAT(message([&] {
                ops->residual_add(*queue, {.sequences = {},
                                           .hidden_in = x.half.view(),
                                           .branch = x.half.view(),
                                           .dropout = {},
                                           .hidden_out = x.half.view()});
              }),
              testing::HasSubstr("residual_add: hidden_in must be f32 (3, 4), found bf16 (3, 4)"));
  EXPECT_THAT(message([&] {
                ops->residual_norm(*queue, {.sequences = {},
                                            .hidden_in = x.full.view(),
                                            .branch = x.full.view(),
                                            .weight = x.half.flat_view().flat(0, 4),
                                            .dropout = {},
                                            .output_dropout = {},
                                            .hidden_out = x.full.view(),
                                            .normed = x.half.view(),
                                            .rstd = y.full.flat_view().flat(0, 3)});
              }),
              testing::HasSubstr("residual_norm: branch must be bf16 (3, 4), found f32 (3, 4)"));
  EXPECT_THAT(message([&] {
                ops->residual_norm_gradient(*queue, {.sequences = {},
                                                     .d_normed = x.half.view(),
                                                     .hidden = x.full.view(),
                                                     .rstd = y.full.flat_view().flat(0, 3),
                                                     .weight = x.half.flat_view().flat(0, 4),
                                                     .dropout = {},
                                                     .output_dropout = {},
                                                     .d_hidden = x.half.view(),
                                                     .d_branch = {},
                                                     .d_weight = x.full.flat_view().flat(0, 4)});
              }),
              testing::HasSubstr("residual_norm_gradient: d_hidden must be f32 (3, 4), found bf16 (3, 4)"));
  EXPECT_THAT(
      message([&] { ops->cross_entropy(*queue, {.logits = x.half.view(), .labels = ids().flat(0, 3), .losses = {}}); }),
      testing::HasSubstr("cross_entropy: logits must be f32"));
  EXPECT_THAT(message([&] {
                ops->cross_entropy(*queue, {.logits = x.full.view(),
                                            .labels = ids().flat(0, 3),
                                            .losses = eight.full.flat_view().flat(0, 3),
                                            .gradient = y.half.view()});
              }),
              testing::HasSubstr("cross_entropy: gradient must be bf16 (3, 4), found bf16 (3, 2)"));
  EXPECT_THAT(message([&] {
                ops->activation(
                    *queue,
                    {.sequences = {}, .gated = true, .u = eight.half.view(), .dropout = {}, .out = x.full.view()});
              }),
              testing::HasSubstr("activation: out must be bf16 (3, 4), found f32 (3, 4)"));
}

struct ProductShape {
  std::int64_t rows, in, out;
};

/// Sums of products: fp32 in another order (bf16 is multiplied tile by tile), then rounded once.
class Bf16Linear : public testing::TestWithParam<ProductShape> {
 protected:
  /// One rounding to bf16 (half of the last place, at most 2^-8 of the number) of sums that differ by fp32's errors
  /// over up to 1000 standard normal products.
  void expect_near(const Matrix& found, const Matrix& expected, double rounding, const char* what) const {
    ASSERT_EQ(found.values.size(), expected.values.size());
    for (std::size_t i = 0; i < found.values.size(); ++i)
      ASSERT_NEAR(static_cast<double>(found.values[i]), static_cast<double>(expected.values[i]),
                  rounding * std::abs(static_cast<double>(expected.values[i])) + 2e-4)
          << what << ", element " << i;
  }

  struct Outcome {
    std::vector<BFloat16> y, y_added, dx, dx_of_f32;
    std::vector<float> y_f32, dw, dw_of_f32;
    friend bool operator==(const Outcome&, const Outcome&) = default;
  };

  static constexpr double kOneRounding = 1.0 / 256.0;
  const std::int64_t rows = GetParam().rows, in = GetParam().in, out = GetParam().out;
  std::unique_ptr<Device> host = make_host_device();
  std::unique_ptr<Queue> queue = host->create_compute_queue();
  Both x{rows, in, 1}, w{out, in, 2}, dy{rows, out, 3}, y_before{rows, out, 4};

  Outcome run(int threads) {
    const auto ops = cpu::make_model_ops(cpu::make_thread_pool(threads));
    Half y = y_before.half, y_added = y_before.half, dx{x.full}, dx_of_f32{x.full};
    Matrix y_f32(rows, out), dw(out, in, 0.5F), dw_of_f32(out, in, 0.5F);
    ops->linear(*queue, {.x = x.half.view(), .w = w.half.view(), .y = y.view(), .alpha = 0.25F});
    ops->linear(*queue,
                {.x = x.half.view(), .w = w.half.view(), .y = y_added.view(), .alpha = 0.25F, .output = Output::add});
    ops->linear(*queue, {.x = x.half.view(), .w = w.half.view(), .y = y_f32.view(), .alpha = 0.25F});
    ops->linear_input_gradient(*queue, {.dy = dy.half.view(), .w = w.half.view(), .dx = dx.view()});
    ops->linear_input_gradient(
        *queue, {.dy = dy.full.view(), .w = w.half.view(), .dx = dx_of_f32.view(), .output = Output::add});
    ops->linear_weight_gradient(*queue, {.dy = dy.half.view(), .x = x.half.view(), .dw = dw.view(), .alpha = 0.25F});
    ops->linear_weight_gradient(*queue,
                                {.dy = dy.full.view(), .x = x.half.view(), .dw = dw_of_f32.view(), .alpha = 0.25F});
    Matrix overwritten(out, in, 0.25F), expected(out, in, 0.0F);
    ops->linear_weight_gradient(
        *queue, {.dy = dy.half.view(), .x = x.half.view(), .dw = overwritten.view(), .output = Output::overwrite});
    ops->linear_weight_gradient(*queue, {.dy = dy.half.view(), .x = x.half.view(), .dw = expected.view()});
    EXPECT_EQ(overwritten.values, expected.values) << "as if it had been zero";
    Half narrow(overwritten);
    std::ranges::fill(narrow.bits, BFloat16{0x7FC0});
    ops->linear_weight_gradient(
        *queue, {.dy = dy.half.view(), .x = x.half.view(), .dw = narrow.view(), .output = Output::overwrite});
    EXPECT_EQ(narrow.bits, Half(overwritten).bits) << "the sum in f32, rounded once";
    return {y.bits, y_added.bits, dx.bits, dx_of_f32.bits, y_f32.values, dw.values, dw_of_f32.values};
  }

  static Matrix widened(const std::vector<BFloat16>& bits, std::int64_t row_count, std::int64_t column_count) {
    Half half{Matrix(row_count, column_count)};
    half.bits = bits;
    return half.widened();
  }
};

TEST_P(Bf16Linear, IsTheF32ProductRoundedOnce) {
  const auto ops = cpu::make_model_ops(cpu::make_thread_pool(2));

  const Outcome found = run(2);

  Matrix y(rows, out), y_added = y_before.full, dx(rows, in), dx_added = x.full, dw(out, in, 0.5F);
  ops->linear(*queue, {.x = x.full.view(), .w = w.full.view(), .y = y.view(), .alpha = 0.25F});
  ops->linear(*queue,
              {.x = x.full.view(), .w = w.full.view(), .y = y_added.view(), .alpha = 0.25F, .output = Output::add});
  ops->linear_input_gradient(*queue, {.dy = dy.full.view(), .w = w.full.view(), .dx = dx.view()});
  ops->linear_input_gradient(*queue,
                             {.dy = dy.full.view(), .w = w.full.view(), .dx = dx_added.view(), .output = Output::add});
  ops->linear_weight_gradient(*queue, {.dy = dy.full.view(), .x = x.full.view(), .dw = dw.view(), .alpha = 0.25F});
  Matrix found_y_f32 = y, found_dw = dw, found_dw_of_f32 = dw;
  found_y_f32.values = found.y_f32;
  found_dw.values = found.dw;
  found_dw_of_f32.values = found.dw_of_f32;
  expect_near(widened(found.y, rows, out), y, kOneRounding, "y");
  expect_near(widened(found.y_added, rows, out), y_added, kOneRounding, "y added to");
  expect_near(found_y_f32, y, 0.0, "y in f32");
  EXPECT_EQ(found.y, Half(found_y_f32).bits) << "bf16 is f32 rounded";
  expect_near(widened(found.dx, rows, in), dx, kOneRounding, "dx");
  expect_near(widened(found.dx_of_f32, rows, in), dx_added, kOneRounding, "dx added to, of f32 dy");
  expect_near(found_dw, dw, 0.0, "dw");
  EXPECT_EQ(found.dw_of_f32, found.dw) << "the same numbers in dy";
}

TEST_P(Bf16Linear, BitsDoNotDependOnThreads) { EXPECT_EQ(run(1), run(3)); }

// The large one has several tiles in both directions and more than one block of every depth.
INSTANTIATE_TEST_SUITE_P(Shapes, Bf16Linear,
                         testing::Values(ProductShape{1, 1, 1}, ProductShape{7, 5, 24}, ProductShape{33, 64, 17},
                                         ProductShape{523, 401, 1030}, ProductShape{0, 5, 3}));

}  // namespace
}  // namespace spillway::kernels
