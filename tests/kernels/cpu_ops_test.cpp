// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.hpp"
#include "kernels/cpu/cpu_kernels.hpp"
#include "kernels/kernel_fixtures.hpp"

namespace spillway::kernels::cpu {
namespace {

using test::Batch;
using test::Matrix;
using testing::HasSubstr;
using testing::ThrowsMessage;

/// Keeps what is submitted until it is told to run.
class HeldQueue : public Queue {
 public:
  void submit(std::function<void()> work) override { held.push_back(std::move(work)); }
  Event record() override { return {}; }
  void wait(const Event& event) override { event.wait(); }
  void run() {
    for (const auto& work : held) work();
    held.clear();
  }
  std::vector<std::function<void()>> held;
};

struct CpuOps : testing::Test {
  std::unique_ptr<ModelOps> ops = make_model_ops(make_thread_pool(2));
  std::unique_ptr<OptimizerOps> optimizer = make_optimizer_ops(make_thread_pool(2));
  HeldQueue queue;
  Batch batch{3};
  std::vector<std::int32_t> ids{0, 1, 1};
  ConstTensorView ids_view{std::span<const std::int32_t>(ids), {3}};
  Matrix rows3x4 = Matrix::random(3, 4, 1), other3x4 = Matrix::random(3, 4, 2), wrong3x5{3, 5},
         weights2x4 = Matrix::random(2, 4, 3);
  Matrix rows3x2{3, 2}, row4 = Matrix::random(1, 4, 4), row3{1, 3}, table5x4 = Matrix::random(5, 4, 5),
                        rows3x8 = Matrix::random(3, 8, 6);
  std::vector<double> sums = std::vector<double>(2);
};

#define EXPECT_REFUSED(statement, text)                                   \
  EXPECT_THAT([&] { statement; }, ThrowsMessage<Error>(HasSubstr(text))); \
  EXPECT_TRUE(queue.held.empty())

TEST_F(CpuOps, AnOp_RunsWhenTheQueueDoes_WithItsOwnCopyOfTheViews) {
  auto op = std::make_unique<Linear>(Linear{.x = rows3x4.view(), .w = weights2x4.view(), .y = rows3x2.view()});

  ops->linear(queue, *op);
  op.reset();

  EXPECT_EQ(rows3x2.values, Matrix(3, 2).values) << "nothing has run yet";
  queue.run();
  EXPECT_NE(rows3x2.values, Matrix(3, 2).values);
}

TEST_F(CpuOps, EveryOp_ReachesItsKernel) {
  const Matrix before = rows3x4;
  ops->linear(queue, {.x = rows3x4.view(), .w = weights2x4.view(), .y = rows3x2.view()});
  ops->linear_input_gradient(queue, {.dy = rows3x2.view(), .w = weights2x4.view(), .dx = other3x4.view()});
  ops->linear_weight_gradient(queue, {.dy = rows3x2.view(), .x = rows3x4.view(), .dw = weights2x4.view()});
  ops->embedding(
      queue,
      {.sequences = batch.sequences, .ids = ids_view, .table = table5x4.view(), .dropout = {}, .out = other3x4.view()});
  ops->embedding_gradient(queue, {.sequences = batch.sequences,
                                  .ids = ids_view,
                                  .d_out = other3x4.view(),
                                  .dropout = {},
                                  .d_table = table5x4.view()});
  ops->residual_norm(queue, {.sequences = batch.sequences,
                             .hidden_in = rows3x4.view(),
                             .branch = {},
                             .weight = row4.flat_view(),
                             .dropout = {},
                             .output_dropout = {},
                             .hidden_out = {},
                             .normed = other3x4.view(),
                             .rstd = row3.flat_view()});
  ops->residual_norm_gradient(queue, {.sequences = batch.sequences,
                                      .d_normed = other3x4.view(),
                                      .hidden = rows3x4.view(),
                                      .rstd = row3.flat_view(),
                                      .weight = row4.flat_view(),
                                      .dropout = {},
                                      .output_dropout = {},
                                      .d_hidden = other3x4.view(),
                                      .d_branch = {},
                                      .d_weight = row4.flat_view()});
  ops->residual_add(queue, {.sequences = batch.sequences,
                            .hidden_in = rows3x4.view(),
                            .branch = other3x4.view(),
                            .dropout = {},
                            .hidden_out = other3x4.view()});
  ops->residual_add_gradient(
      queue, {.sequences = batch.sequences, .d_hidden = other3x4.view(), .dropout = {}, .d_branch = other3x4.view()});
  ops->activation(
      queue, {.sequences = batch.sequences, .gated = true, .u = rows3x8.view(), .dropout = {}, .out = other3x4.view()});
  ops->activation_gradient(queue, {.sequences = batch.sequences,
                                   .gated = true,
                                   .u = rows3x8.view(),
                                   .d_out = other3x4.view(),
                                   .dropout = {},
                                   .du = rows3x8.view()});
  ops->cross_entropy(queue, {.logits = other3x4.view(), .labels = ids_view, .losses = row3.flat_view()});
  ops->add(queue, rows3x4.view(), rows3x4.view());
  ops->convert(queue, rows3x4.view(), other3x4.view());
  ops->fill_zero(queue, other3x4.view());

  EXPECT_EQ(queue.held.size(), 15U);
  queue.run();

  for (const float value : other3x4.values) EXPECT_EQ(value, 0.0F) << "fill_zero was the last to write it";
  for (std::size_t i = 0; i < before.values.size(); ++i)
    EXPECT_EQ(rows3x4.values[i], 2 * before.values[i]) << "only add wrote it";
}

TEST_F(CpuOps, ABatchWithoutRows_IsLegal) {
  const Batch empty(0);
  Matrix none(0, 4), no_rstd(1, 0), d_weight(1, 4, 0.5F), dw(4, 4, 0.5F);

  ops->residual_norm_gradient(queue, {.sequences = empty.sequences,
                                      .d_normed = none.view(),
                                      .hidden = none.view(),
                                      .rstd = no_rstd.flat_view(),
                                      .weight = row4.flat_view(),
                                      .dropout = {},
                                      .output_dropout = {},
                                      .d_hidden = none.view(),
                                      .d_branch = none.view(),
                                      .d_weight = d_weight.flat_view()});
  ops->linear_weight_gradient(queue, {.dy = none.view(), .x = none.view(), .dw = dw.view()});
  ops->linear(queue, {.x = none.view(), .w = dw.view(), .y = none.view()});
  queue.run();

  EXPECT_EQ(d_weight.values, Matrix(1, 4, 0.5F).values);
  EXPECT_EQ(dw.values, Matrix(4, 4, 0.5F).values);
}

TEST_F(CpuOps, TensorsThatDoNotFit_AreRefusedByNameBeforeAnythingIsQueued) {
  EXPECT_REFUSED(ops->linear(queue, {.x = wrong3x5.view(), .w = weights2x4.view(), .y = rows3x2.view()}),
                 "linear: w must be f32 (2, 5), found f32 (2, 4)");
  EXPECT_REFUSED(ops->linear(queue, {.x = rows3x4.view(), .w = weights2x4.view(), .y = {}}), "linear: y");
  EXPECT_REFUSED(
      ops->linear_input_gradient(queue, {.dy = rows3x4.view(), .w = weights2x4.view(), .dx = rows3x4.view()}),
      "linear_input_gradient: w");
  EXPECT_REFUSED(ops->linear_weight_gradient(queue, {.dy = rows3x2.view(), .x = rows3x4.view(), .dw = rows3x4.view()}),
                 "linear_weight_gradient: dw");
  EXPECT_REFUSED(ops->embedding(queue, {.sequences = {},
                                        .ids = rows3x4.flat_view(),
                                        .table = table5x4.view(),
                                        .dropout = {},
                                        .out = rows3x4.view()}),
                 "ids must be i32 (12), found f32");
  EXPECT_REFUSED(
      ops->embedding_gradient(
          queue,
          {.sequences = {}, .ids = ids_view, .d_out = wrong3x5.view(), .dropout = {}, .d_table = table5x4.view()}),
      "embedding_gradient: d_out");
  EXPECT_REFUSED(ops->residual_norm(queue, {.sequences = {},
                                            .hidden_in = rows3x4.view(),
                                            .branch = other3x4.view(),
                                            .weight = row4.flat_view(),
                                            .dropout = {},
                                            .output_dropout = {},
                                            .hidden_out = {},
                                            .normed = other3x4.view(),
                                            .rstd = row3.flat_view()}),
                 "residual_norm: hidden_out");
  EXPECT_REFUSED(ops->residual_norm_gradient(queue, {.sequences = {},
                                                     .d_normed = other3x4.view(),
                                                     .hidden = rows3x4.view(),
                                                     .rstd = row4.flat_view(),
                                                     .weight = row4.flat_view(),
                                                     .dropout = {},
                                                     .output_dropout = {},
                                                     .d_hidden = other3x4.view(),
                                                     .d_branch = {},
                                                     .d_weight = row4.flat_view()}),
                 "residual_norm_gradient: rstd");
  EXPECT_REFUSED(ops->residual_add(queue, {.sequences = {},
                                           .hidden_in = wrong3x5.view(),
                                           .branch = rows3x4.view(),
                                           .dropout = {},
                                           .hidden_out = rows3x4.view()}),
                 "residual_add: hidden_in");
  EXPECT_REFUSED(ops->residual_add_gradient(
                     queue, {.sequences = {}, .d_hidden = rows3x4.view(), .dropout = {}, .d_branch = wrong3x5.view()}),
                 "residual_add_gradient: d_branch");
  EXPECT_REFUSED(
      ops->activation(queue,
                      {.sequences = {}, .gated = true, .u = rows3x4.view(), .dropout = {}, .out = rows3x4.view()}),
      "activation: u must be f32 (3, 8)");
  EXPECT_REFUSED(
      ops->activation_gradient(
          queue, {.sequences = {}, .u = rows3x4.view(), .d_out = rows3x4.view(), .dropout = {}, .du = rows3x8.view()}),
      "activation_gradient: du");
  EXPECT_REFUSED(ops->cross_entropy(queue, {.logits = rows3x4.view(), .labels = ids_view, .losses = row4.flat_view()}),
                 "cross_entropy: losses");
  EXPECT_REFUSED(ops->add(queue, rows3x4.view(), rows3x8.view()), "add: from");
  EXPECT_REFUSED(optimizer->adamw(queue, {.parameter = {.weight = row4.flat_view()},
                                          .exp_avg = {.values = row4.flat_view()},
                                          .exp_avg_sq = {.values = row3.flat_view()},
                                          .gradient = row4.flat_view()}),
                 "adamw: exp_avg_sq");
  EXPECT_REFUSED(
      optimizer->sum_of_squares(queue, {.x = row4.flat_view(), .block = 3, .partial_sums = row4.flat_view()}),
      "partial_sums must be f64 of 2 elements");
  EXPECT_REFUSED(optimizer->sum_of_squares(queue, {.x = row4.flat_view(), .block = 0, .partial_sums = {}}), "block");
}

TEST_F(CpuOps, AttentionThatDoesNotFit_IsRefused) {
  Matrix log_sum_exp(3, 2), q = rows3x4, out = rows3x4;
  const Attention good{.queries = batch.sequences,
                       .keys = batch.sequences,
                       .heads = 2,
                       .head_size = 2,
                       .q = q.view(),
                       .k = q.view(),
                       .v = q.view(),
                       .q_stride = 4,
                       .k_stride = 4,
                       .v_stride = 4,
                       .bias = {},
                       .dropout = {},
                       .out = out.view(),
                       .log_sum_exp = log_sum_exp.view()};
  Attention narrow = good, other_sequences = good, biased = good;
  narrow.k_stride = 3;
  other_sequences.keys.count = 1;
  other_sequences.keys.offsets = ids_view.flat(0, 2);
  biased.bias.table = table5x4.view();

  EXPECT_REFUSED(ops->attention(queue, narrow),
                 "attention: k must be f32 with a stride of at least 4, found f32 with 3");
  EXPECT_REFUSED(ops->attention(queue, other_sequences), "the number of query sequences");
  EXPECT_REFUSED(ops->attention(queue, biased), "bias.table must be f32 (5, 2)");
  EXPECT_REFUSED(
      ops->attention_gradient(
          queue,
          {.forward = good, .d_out = rows3x8.view(), .d_q = q.view(), .d_k = q.view(), .d_v = q.view(), .d_bias = {}}),
      "attention_gradient: d_out");
  EXPECT_REFUSED(ops->attention_gradient(queue, {.forward = good,
                                                 .d_out = out.view(),
                                                 .d_q = q.view(),
                                                 .d_k = q.view(),
                                                 .d_v = q.view(),
                                                 .d_bias = log_sum_exp.view()}),
                 "d_bias");
}

TEST_F(CpuOps, ActiveDropout_NeedsTheRowsSamples_AndAProbabilityBelowOne) {
  ResidualAdd op{.sequences = {},
                 .hidden_in = rows3x4.view(),
                 .branch = other3x4.view(),
                 .dropout = {.probability = 0.5F},
                 .hidden_out = rows3x4.view()};
  EXPECT_REFUSED(ops->residual_add(queue, op), "3 rows, but the sequences have 0");

  op.sequences = batch.sequences;
  op.dropout.probability = 1.0F;
  EXPECT_REFUSED(ops->residual_add(queue, op), "probability of 1");

  op.dropout.probability = 0.5F;
  ops->residual_add(queue, op);
  EXPECT_EQ(queue.held.size(), 1U);
}

TEST_F(CpuOps, OptimizerOps_ReachTheirKernels) {
  Matrix p(1, 4, 1.0F), m(1, 4), v(1, 4), g(1, 4, 1.0F);
  optimizer->adamw(queue, {.parameter = {.weight = p.flat_view()},
                           .exp_avg = {.values = m.flat_view()},
                           .exp_avg_sq = {.values = v.flat_view()},
                           .gradient = g.flat_view(),
                           .learning_rate = 0.5});
  optimizer->sum_of_squares(queue,
                            {.x = g.flat_view(), .block = 3, .partial_sums = TensorView(std::span<double>(sums), {2})});
  queue.run();

  for (const float value : p.values) EXPECT_NEAR(value, 0.5F, 1e-5F);
  EXPECT_EQ(sums, (std::vector<double>{3.0, 1.0}));
}

TEST_F(CpuOps, OptimizerOps_RefuseFormatsThatDoNotFit) {
  Matrix f32(1, 512);
  std::vector<std::uint8_t> codes(512);
  const TensorView code_view(std::span<std::uint8_t>(codes), {512});
  AdamWStep step{.parameter = {.weight = f32.flat_view()},
                 .exp_avg = {.values = code_view},
                 .exp_avg_sq = {.values = f32.flat_view()},
                 .gradient = f32.flat_view()};
  const TensorView scales = f32.flat_view().flat(0, 2);

  EXPECT_REFUSED(optimizer->adamw(queue, step), "adamw: exp_avg.scales must be f32 of 2 elements");
  step.exp_avg.scales = scales;
  step.rounding.first = 128;
  EXPECT_REFUSED(optimizer->adamw(queue, step), "rounding.first must be a multiple of 256");
  step.rounding.first = 256;
  step.parameter.master = f32.flat_view();
  EXPECT_REFUSED(optimizer->adamw(queue, step), "a weight with master must be bf16");
  EXPECT_REFUSED(optimizer->decode_state(queue, {.state = {.values = f32.flat_view()}, .values = scales}),
                 "decode_state: state must be f32, bf16 or u8 of 2 elements");
  EXPECT_REFUSED(optimizer->encode_parameter(queue, {.values = scales, .parameter = {.weight = f32.flat_view()}}),
                 "encode_parameter: a weight without master must be f32 of 2 elements");

  const MatrixPiece outside{.rows = 2, .columns = 256, .tensor_begin = 1, .count = 512};
  MatrixPiece piece = outside;
  piece.tensor_begin = 0;
  const TensorView one(std::span<double>(sums).first(1), {1});
  EXPECT_REFUSED(optimizer->adafactor_sums(queue, {.piece = outside, .gradient = {f32.flat_view()}}),
                 "adafactor_sums: elements 1 to 513 are no piece of a 2 x 256 matrix");
  EXPECT_REFUSED(optimizer->adafactor_sums(queue, {.piece = piece, .gradient = {f32.flat_view()}, .row_sums = one}),
                 "adafactor_sums: row_sums must be f64 of 2 elements");
  EXPECT_REFUSED(
      optimizer->adafactor_update_sum(queue, {.update = {.piece = piece, .gradient = {f32.flat_view()}}, .sum = one}),
      "the second moment must be both factors or exp_avg_sq");
}

TEST_F(CpuOps, AdafactorAndCodecs_ReachTheirKernels) {
  Matrix p(1, 4, 2.0F), g(1, 4, 1.0F), v(1, 4), row(1, 2), column(1, 2), row_factors(1, 2), column_factors(1, 2);
  std::vector<double> rows(2), columns(2), squares(1), updates(1);
  const TensorView row_sums(std::span<double>(rows), {2}), column_sums(std::span<double>(columns), {2});
  const MatrixPiece piece{.rows = 2, .columns = 2, .tensor_begin = 0, .count = 4};
  const AdafactorGradient gradient{g.flat_view()};
  const AdafactorUpdate update{.piece = piece,
                               .gradient = gradient,
                               .row_factors = row_factors.flat_view(),
                               .column_factors = column_factors.flat_view()};

  optimizer->adafactor_sums(queue, {.piece = piece,
                                    .gradient = gradient,
                                    .row_sums = row_sums,
                                    .column_sums = column_sums,
                                    .parameter = {.weight = p.flat_view()},
                                    .parameter_sum = {std::span<double>(squares), {1}}});
  optimizer->adafactor_factors(queue, {.row_sums = row_sums,
                                       .column_sums = column_sums,
                                       .exp_avg_sq_row = row.flat_view(),
                                       .exp_avg_sq_col = column.flat_view(),
                                       .row_factors = row_factors.flat_view(),
                                       .column_factors = column_factors.flat_view()});
  optimizer->adafactor_update_sum(queue, {.update = update, .sum = {std::span<double>(updates), {1}}});
  optimizer->adafactor_second_moment(queue, {.gradient = gradient, .beta2 = 0.5, .exp_avg_sq = v.flat_view()});
  optimizer->adafactor_step(
      queue, {.update = update, .parameter = {.weight = p.flat_view()}, .learning_rate = 0.5, .divisor = 2.0});
  Matrix decoded(1, 4), encoded(1, 4), state(1, 4), moments(1, 4);
  optimizer->decode_parameter(queue, {.parameter = {.weight = p.flat_view()}, .values = decoded.flat_view()});
  optimizer->encode_parameter(queue, {.values = g.flat_view(), .parameter = {.weight = encoded.flat_view()}});
  optimizer->encode_state(queue, {.values = v.flat_view(), .state = {.values = state.flat_view()}});
  optimizer->decode_state(queue, {.state = {.values = state.flat_view()}, .values = moments.flat_view()});
  queue.run();

  EXPECT_EQ(rows, (std::vector<double>{2.0, 2.0}));
  EXPECT_EQ(columns, (std::vector<double>{2.0, 2.0}));
  EXPECT_EQ(squares[0], 16.0);
  EXPECT_EQ(updates[0], 4.0);
  EXPECT_EQ(decoded.values, std::vector<float>(4, 1.75F));
  EXPECT_EQ(encoded.values, g.values);
  EXPECT_EQ(moments.values, std::vector<float>(4, 0.5F));
}

}  // namespace
}  // namespace spillway::kernels::cpu
