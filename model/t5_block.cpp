// SPDX-License-Identifier: Apache-2.0
// A block of T5Model, forward and backward: pre-norm sublayers around one residual stream.
#include "model/dropout_sites.hpp"
#include "model/t5_model.hpp"

namespace spillway::model {

using kernels::Attention;
using kernels::Output;
namespace sites = dropout_sites;

namespace {

/// The columns of a wider tensor from `column` on: attention reads them with the wide row as stride.
TensorView columns(const TensorView& wide, std::int64_t column) {
  return {wide.data() + static_cast<std::size_t>(column) * size_of(wide.dtype()), wide.dtype(), wide.shape()};
}

/// The first (rows, width) of a scratch tensor.
TensorView first(const TensorView& scratch, std::int64_t rows, std::int64_t width) {
  return scratch.flat(0, rows * width).reshape({rows, width});
}

}  // namespace

BlockActivations T5Model::block_of(int stage, const MicroBatch& batch, bool kept) {
  const bool decoder = in_decoder(stage);
  if (!kept) {
    Carver carver(scratch_.recomputed.data());
    return carve_block(carver, config_, dtype_, rows_of(stage, batch).rows, batch.source.rows, decoder);
  }
  Carver carver(residuals_.stage_memory(stage, batch.slot));
  (void)carver.take({rows_of(stage, batch).rows, config_.d_model});
  return carve_block(carver, config_, dtype_, rows_of(stage, batch).rows, batch.source.rows, decoder);
}

Attention T5Model::self_attention(int stage, const MicroBatch& batch, const PassOptions& options,
                                  const BlockActivations& a) {
  const bool decoder = in_decoder(stage);
  const std::int64_t inner = config_.inner();
  return {.queries = rows_of(stage, batch),
          .keys = rows_of(stage, batch),
          .heads = config_.num_heads,
          .head_size = config_.d_kv,
          .q = a.self.q,
          .k = columns(a.self.q, inner),
          .v = columns(a.self.q, 2 * inner),
          .q_stride = 3 * inner,
          .k_stride = 3 * inner,
          .v_stride = 3 * inner,
          .bias = {.table = weight(bias_place(stage), {config_.relative_attention_num_buckets, config_.num_heads}),
                   .bidirectional = !decoder,
                   .max_distance = config_.relative_attention_max_distance},
          .causal = decoder,
          .dropout = dropout_at(stage, sites::kSelfProbabilities, batch, options),
          .out = a.self.out,
          .log_sum_exp = a.self.log_sum_exp};
}

Attention T5Model::cross_attention(int stage, const MicroBatch& batch, const PassOptions& options,
                                   const BlockActivations& a) {
  const std::int64_t inner = config_.inner();
  return {.queries = batch.target,
          .keys = batch.source,
          .heads = config_.num_heads,
          .head_size = config_.d_kv,
          .q = a.cross.q,
          .k = a.cross.kv,
          .v = columns(a.cross.kv, inner),
          .q_stride = inner,
          .k_stride = 2 * inner,
          .v_stride = 2 * inner,
          .dropout = dropout_at(stage, sites::kCrossProbabilities, batch, options),
          .out = a.cross.out,
          .log_sum_exp = a.cross.log_sum_exp};
}

void T5Model::block(Queue& queue, int stage, const MicroBatch& batch, const PassOptions& options, bool recompute) {
  const bool decoder = in_decoder(stage);
  const int unit = stages_[static_cast<std::size_t>(stage)].unit;
  const BlockOffsets& at = decoder ? layout_.decoder_block() : layout_.encoder_block();
  const kernels::PackedSequences& sequences = rows_of(stage, batch);
  const BlockActivations a = block_of(stage, batch, needs_gradient(stage, batch) && options.keeps(stage));
  const std::int64_t d = config_.d_model;
  const std::int64_t inner = config_.inner();
  const TensorView input = input_of(stage, batch);
  const TensorView branch = first(scratch_.branch, sequences.rows, d);
  // hidden_out = hidden_in + dropout(branch), normed = norm(hidden_out): the seam between two sublayers.
  const auto residual_norm = [&](ConstTensorView hidden_in, ConstTensorView added, int site, int sublayer,
                                 TensorView hidden_out, TensorView normed, TensorView rstd) {
    ops_.residual_norm(queue, {.sequences = sequences,
                               .hidden_in = hidden_in,
                               .branch = added,
                               .weight = weight(norm_place(stage, sublayer), {d}),
                               .dropout = added ? dropout_at(stage, site, batch, options) : kernels::Dropout{},
                               .epsilon = static_cast<float>(config_.layer_norm_epsilon),
                               .hidden_out = hidden_out,
                               .normed = normed,
                               .rstd = rstd});
  };

  residual_norm(input, {}, 0, 0, {}, a.self.normed, a.self.rstd);
  ops_.linear(queue, {.x = a.self.normed, .w = weight({unit, at.qkv}, {3 * inner, d}), .y = a.self.q});
  ops_.attention(queue, self_attention(stage, batch, options, a));
  ops_.linear(queue, {.x = a.self.out, .w = weight({unit, at.o}, {d, inner}), .y = branch});

  if (decoder) {
    residual_norm(input, branch, sites::kSelfBranch, 1, a.hidden_attention, a.cross.normed, a.cross.rstd);
    ops_.linear(queue, {.x = a.cross.normed, .w = weight({unit, at.cross_q}, {inner, d}), .y = a.cross.q});
    ops_.linear(queue, {.x = encoder_output(batch), .w = weight({unit, at.cross_kv}, {2 * inner, d}), .y = a.cross.kv});
    ops_.attention(queue, cross_attention(stage, batch, options, a));
    ops_.linear(queue, {.x = a.cross.out, .w = weight({unit, at.cross_o}, {d, inner}), .y = branch});
    residual_norm(a.hidden_attention, branch, sites::kCrossBranch, 2, a.hidden_cross, a.feed_forward.normed,
                  a.feed_forward.rstd);
  } else {
    residual_norm(input, branch, sites::kSelfBranch, 1, a.hidden_attention, a.feed_forward.normed, a.feed_forward.rstd);
  }

  ops_.linear(queue,
              {.x = a.feed_forward.normed, .w = weight({unit, at.wi}, {config_.ff_in(), d}), .y = a.feed_forward.u});
  ops_.activation(queue, {.sequences = sequences,
                          .kind = config_.activation,
                          .gated = config_.gated,
                          .u = a.feed_forward.u,
                          .dropout = dropout_at(stage, sites::kFeedForward, batch, options),
                          .out = a.feed_forward.act,
                          .mask = a.feed_forward.mask});
  if (recompute) return;
  ops_.linear(queue, {.x = a.feed_forward.act, .w = weight({unit, at.wo}, {d, config_.d_ff}), .y = branch});
  ops_.residual_add(queue, {.sequences = sequences,
                            .hidden_in = decoder ? a.hidden_cross : a.hidden_attention,
                            .branch = branch,
                            .dropout = dropout_at(stage, sites::kFeedForwardBranch, batch, options),
                            .hidden_out = input_of(stage + 1, batch)});
}

void T5Model::block_backward(Queue& queue, int stage, const MicroBatch& batch, const PassOptions& options) {
  if (!options.keeps(stage)) block(queue, stage, batch, options, true);
  const bool decoder = in_decoder(stage);
  const int unit = stages_[static_cast<std::size_t>(stage)].unit;
  const BlockOffsets& at = decoder ? layout_.decoder_block() : layout_.encoder_block();
  const kernels::PackedSequences& sequences = rows_of(stage, batch);
  const BlockActivations a = block_of(stage, batch, options.keeps(stage));
  const std::int64_t rows = sequences.rows;
  const std::int64_t d = config_.d_model;
  const std::int64_t inner = config_.inner();
  const TensorView d_hidden = stream_gradient(stage, batch);
  const TensorView d_branch(scratch_.branch.data(), dtype_, {rows, d});
  const TensorView d_normed = first(scratch_.d_normed, rows, d);
  const TensorView d_inner = first(scratch_.d_inner, rows, inner);
  // A block's unit holds nothing but the weights of its products.
  const Output first_sum = parameters_.overwrites_gradient(unit) ? Output::overwrite : Output::add;
  // y = x wᵀ backwards: dw += dyᵀ x, and dx from dy where it is wanted.
  const auto linear_backward = [&](ConstTensorView dy, ConstTensorView x, std::int64_t offset, Shape shape,
                                   TensorView dx, Output output = Output::overwrite) {
    ops_.linear_weight_gradient(queue, {.dy = dy, .x = x, .dw = gradient({unit, offset}, shape), .output = first_sum});
    if (!dx) return;
    ops_.linear_input_gradient(queue, {.dy = dy, .w = weight({unit, offset}, shape), .dx = dx, .output = output});
  };
  const auto norm_backward = [&](ConstTensorView hidden, ConstTensorView rstd, int sublayer, int site,
                                 TensorView d_branch_out) {
    ops_.residual_norm_gradient(queue,
                                {.sequences = sequences,
                                 .d_normed = d_normed,
                                 .hidden = hidden,
                                 .rstd = rstd,
                                 .weight = weight(norm_place(stage, sublayer), {d}),
                                 .dropout = d_branch_out ? dropout_at(stage, site, batch, options) : kernels::Dropout{},
                                 .d_hidden = d_hidden,
                                 .d_branch = d_branch_out,
                                 .d_weight = gradient(norm_place(stage, sublayer), {d})});
  };

  ops_.residual_add_gradient(queue, {.sequences = sequences,
                                     .d_hidden = d_hidden,
                                     .dropout = dropout_at(stage, sites::kFeedForwardBranch, batch, options),
                                     .d_branch = d_branch});
  const TensorView d_act = first(scratch_.d_wide, rows, config_.d_ff);
  const TensorView d_u = a.feed_forward.mask ? d_act : a.feed_forward.u;
  linear_backward(d_branch, a.feed_forward.act, at.wo, {d, config_.d_ff}, d_act);
  ops_.activation_gradient(queue, {.sequences = sequences,
                                   .kind = config_.activation,
                                   .gated = config_.gated,
                                   .u = a.feed_forward.u,
                                   .d_out = d_act,
                                   .dropout = dropout_at(stage, sites::kFeedForward, batch, options),
                                   .du = d_u,
                                   .mask = a.feed_forward.mask});
  linear_backward(d_u, a.feed_forward.normed, at.wi, {config_.ff_in(), d}, d_normed);

  if (decoder) {
    norm_backward(a.hidden_cross, a.feed_forward.rstd, 2, sites::kCrossBranch, d_branch);
    linear_backward(d_branch, a.cross.out, at.cross_o, {d, inner}, d_inner);
    const TensorView d_q = first(scratch_.d_wide, rows, inner);
    const TensorView d_kv = first(scratch_.d_kv, batch.source.rows, 2 * inner);
    ops_.attention_gradient(queue, {.forward = cross_attention(stage, batch, options, a),
                                    .d_out = d_inner,
                                    .d_q = d_q,
                                    .d_k = d_kv,
                                    .d_v = columns(d_kv, inner),
                                    .d_bias = {}});
    linear_backward(d_kv, encoder_output(batch), at.cross_kv, {2 * inner, d},
                    output_of(encoder_output_stage_, batch).d_normed,
                    Output::add);  // not given if the encoder is frozen
    linear_backward(d_q, a.cross.normed, at.cross_q, {inner, d}, d_normed);
    norm_backward(a.hidden_attention, a.cross.rstd, 1, sites::kSelfBranch, d_branch);
  } else {
    norm_backward(a.hidden_attention, a.feed_forward.rstd, 1, sites::kSelfBranch, d_branch);
  }

  linear_backward(d_branch, a.self.out, at.o, {d, inner}, d_inner);
  const TensorView d_qkv = first(scratch_.d_wide, rows, 3 * inner);
  ops_.attention_gradient(
      queue, {.forward = self_attention(stage, batch, options, a),
              .d_out = d_inner,
              .d_q = d_qkv,
              .d_k = columns(d_qkv, inner),
              .d_v = columns(d_qkv, 2 * inner),
              .d_bias = gradient(bias_place(stage), {config_.relative_attention_num_buckets, config_.num_heads})});
  linear_backward(d_qkv, a.self.normed, at.qkv, {3 * inner, d}, d_normed);
  norm_backward(input_of(stage, batch), a.self.rstd, 0, 0, {});
}

}  // namespace spillway::model
