// SPDX-License-Identifier: Apache-2.0
#include "model/t5_model.hpp"

#include <algorithm>
#include <cmath>

#include "model/dropout_sites.hpp"

namespace spillway::model {

using kernels::Dropout;
using kernels::PackedSequences;

T5Model::T5Model(const T5Config& config, const T5Layout& layout, kernels::ModelOps& ops, ParameterSource& parameters,
                 ResidualStore& residuals, const Scratch& scratch)
    : config_(config),
      layout_(layout),
      ops_(ops),
      parameters_(parameters),
      residuals_(residuals),
      scratch_(scratch),
      dtype_(scratch.d_normed.dtype()),
      stages_(t5_stages(config, layout)),
      encoder_output_stage_(static_cast<int>(config.num_layers) + 1) {}

void T5Model::forward(Queue& queue, int stage, const MicroBatch& batch, const PassOptions& options) {
  switch (stages_.at(static_cast<std::size_t>(stage)).kind) {
    case StageKind::encoder_embedding:
    case StageKind::decoder_embedding: return embed(queue, stage, batch, options);
    case StageKind::encoder_block:
    case StageKind::decoder_block: return block(queue, stage, batch, options, false);
    case StageKind::encoder_output: return final_norm(queue, stage, batch, options);
    case StageKind::head: return head(queue, stage, batch, options);
  }
}

void T5Model::backward(Queue& queue, int stage, const MicroBatch& batch, const PassOptions& options) {
  const Stage& which = stages_.at(static_cast<std::size_t>(stage));
  if (!which.backward) return;
  switch (which.kind) {
    case StageKind::encoder_embedding:
    case StageKind::decoder_embedding: return embed_backward(queue, stage, batch, options);
    case StageKind::encoder_block:
    case StageKind::decoder_block: return block_backward(queue, stage, batch, options);
    case StageKind::encoder_output: return final_norm_backward(queue, stage, batch, options);
    case StageKind::head: return;
  }
}

TensorView T5Model::encoder_output(const MicroBatch& batch) { return output_of(encoder_output_stage_, batch).normed; }

const PackedSequences& T5Model::rows_of(int stage, const MicroBatch& batch) const {
  return in_decoder(stage) ? batch.target : batch.source;
}

TensorView T5Model::input_of(int stage, const MicroBatch& batch) {
  Carver carver(residuals_.stage_memory(stage, batch.slot));
  return carver.take({rows_of(stage, batch).rows, config_.d_model});
}

OutputActivations T5Model::output_of(int stage, const MicroBatch& batch) {
  Carver carver(residuals_.stage_memory(stage, batch.slot));
  return carve_output(carver, config_, dtype_, rows_of(stage, batch).rows, needs_gradient(stage, batch));
}

TensorView T5Model::stream_gradient(int stage, const MicroBatch& batch) {
  return output_of(in_decoder(stage) ? static_cast<int>(stages_.size()) - 1 : encoder_output_stage_, batch).d_hidden;
}

bool T5Model::needs_gradient(int stage, const MicroBatch& batch) const {
  return batch.gradient_scale != 0.0F && stages_[static_cast<std::size_t>(stage)].backward;
}

Dropout T5Model::dropout_at(int stage, int site, const MicroBatch& batch, const PassOptions& options) const {
  return {.probability = options.dropout,
          .key = batch.dropout_key,
          .site = static_cast<std::uint32_t>(stage * dropout_sites::kPerStage + site)};
}

ConstTensorView T5Model::weight(const Place& place, Shape shape) {
  return parameters_.weights(place.unit).flat(place.offset, shape.elements()).reshape(shape);
}

TensorView T5Model::gradient(const Place& place, Shape shape) {
  return parameters_.gradient(place.unit).flat(place.offset, shape.elements()).reshape(shape);
}

void T5Model::embed(Queue& queue, int stage, const MicroBatch& batch, const PassOptions& options) {
  ops_.embedding(queue, {.sequences = rows_of(stage, batch),
                         .ids = in_decoder(stage) ? batch.decoder_ids : batch.source_ids,
                         .table = weight(layout_.places().shared, {config_.vocab_size, config_.d_model}),
                         .dropout = dropout_at(stage, dropout_sites::kOutput, batch, options),
                         .out = input_of(stage + 1, batch)});
}

void T5Model::embed_backward(Queue& queue, int stage, const MicroBatch& batch, const PassOptions& options) {
  ops_.embedding_gradient(queue, {.sequences = rows_of(stage, batch),
                                  .ids = in_decoder(stage) ? batch.decoder_ids : batch.source_ids,
                                  .d_out = stream_gradient(stage, batch),
                                  .dropout = dropout_at(stage, dropout_sites::kOutput, batch, options),
                                  .d_table = gradient(layout_.places().shared, {config_.vocab_size, config_.d_model})});
}

const Place& T5Model::norm_place(int stage, int sublayer) const {
  const PersistentPlaces& at = layout_.places();
  const Stage& where = stages_[static_cast<std::size_t>(stage)];
  switch (where.kind) {
    case StageKind::encoder_block: return at.encoder_norms[static_cast<std::size_t>(2 * where.block + sublayer)];
    case StageKind::decoder_block: return at.decoder_norms[static_cast<std::size_t>(3 * where.block + sublayer)];
    case StageKind::encoder_output: return at.encoder_norms.back();
    default: return at.decoder_norms.back();
  }
}

const Place& T5Model::bias_place(int stage) const {
  const auto block = static_cast<std::size_t>(stages_[static_cast<std::size_t>(stage)].block);
  return in_decoder(stage) ? layout_.places().decoder_biases[block] : layout_.places().encoder_biases[block];
}

void T5Model::final_norm(Queue& queue, int stage, const MicroBatch& batch, const PassOptions& options) {
  const OutputActivations a = output_of(stage, batch);
  ops_.residual_norm(queue, {.sequences = rows_of(stage, batch),
                             .hidden_in = a.hidden,
                             .weight = weight(norm_place(stage, 0), {config_.d_model}),
                             .output_dropout = dropout_at(stage, dropout_sites::kOutput, batch, options),
                             .epsilon = static_cast<float>(config_.layer_norm_epsilon),
                             .normed = a.normed,
                             .rstd = a.rstd});
  if (!needs_gradient(stage, batch)) return;
  ops_.fill_zero(queue, a.d_normed);
  ops_.fill_zero(queue, a.d_hidden);
}

void T5Model::final_norm_backward(Queue& queue, int stage, const MicroBatch& batch, const PassOptions& options) {
  const OutputActivations a = output_of(stage, batch);
  ops_.residual_norm_gradient(queue, {.sequences = rows_of(stage, batch),
                                      .d_normed = a.d_normed,
                                      .hidden = a.hidden,
                                      .rstd = a.rstd,
                                      .weight = weight(norm_place(stage, 0), {config_.d_model}),
                                      .output_dropout = dropout_at(stage, dropout_sites::kOutput, batch, options),
                                      .d_hidden = a.d_hidden,
                                      .d_weight = gradient(norm_place(stage, 0), {config_.d_model})});
}

void T5Model::head(Queue& queue, int stage, const MicroBatch& batch, const PassOptions& options) {
  final_norm(queue, stage, batch, options);
  const OutputActivations a = output_of(stage, batch);
  const bool training = batch.gradient_scale != 0.0F;
  const Place& place = layout_.head();
  const Shape shape{config_.vocab_size, config_.d_model};
  const float alpha =
      config_.scale_logits ? static_cast<float>(1.0 / std::sqrt(static_cast<double>(config_.d_model))) : 1.0F;
  const std::int64_t chunk = scratch_.logits.extent(0);
  for (std::int64_t begin = 0; begin < batch.target.rows; begin += chunk) {
    const std::int64_t end = std::min(begin + chunk, batch.target.rows);
    const TensorView logits = scratch_.logits.rows(0, end - begin);
    const TensorView d_logits = scratch_.d_logits ? scratch_.d_logits.rows(0, end - begin) : logits;
    ops_.linear(queue, {.x = a.normed.rows(begin, end), .w = weight(place, shape), .y = logits, .alpha = alpha});
    ops_.cross_entropy(queue, {.logits = logits,
                               .labels = batch.labels.rows(begin, end),
                               .label_smoothing = options.label_smoothing,
                               .gradient_scale = batch.gradient_scale,
                               .losses = batch.losses.rows(begin, end),
                               .gradient = training && scratch_.d_logits ? d_logits : TensorView{}});
    if (!training) continue;
    if (layout_.trainable(place.unit))
      ops_.linear_weight_gradient(
          queue, {.dy = d_logits, .x = a.normed.rows(begin, end), .dw = gradient(place, shape), .alpha = alpha});
    ops_.linear_input_gradient(
        queue, {.dy = d_logits, .w = weight(place, shape), .dx = a.d_normed.rows(begin, end), .alpha = alpha});
  }
  if (training) final_norm_backward(queue, stage, batch, options);
}

}  // namespace spillway::model
