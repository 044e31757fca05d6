// SPDX-License-Identifier: Apache-2.0
#include "train/job_costs.hpp"

#include <algorithm>

namespace spillway::train {
namespace {

using plan::Work;

// A product's two gradients are two products of its size; attention's gradient makes the scores again and has four more.
constexpr double kBackwardProducts = 2.0;
constexpr double kAttentionForward = 4.0;    // operations for a pair and a column of the values
constexpr double kAttentionBackward = 10.0;  // likewise
constexpr double kGradientBytes = 4.0;       // of what products write weight gradients in
constexpr double kStreamBytes = 4.0;         // of the residual stream and its gradient
constexpr double kLogitBytes = 4.0;
// Of Adafactor, before it updates anything of a unit: sums over rows, columns, the update and perhaps the parameters, and factors. Short
// kernels one after the other, some of them on one multiprocessor, counted as what they take on an H200.
constexpr double kMatrixKernels = 18.0;
constexpr double kVectorKernels = 6.0;

/// The width of a model's tensors, as numbers to multiply with.
struct Widths {
  explicit Widths(const model::T5Config& config)
      : d(static_cast<double>(config.d_model)),
        inner(static_cast<double>(config.inner())),
        ff_in(static_cast<double>(config.ff_in())),
        d_ff(static_cast<double>(config.d_ff)),
        vocabulary(static_cast<double>(config.vocab_size)) {}
  double d, inner, ff_in, d_ff, vocabulary;

  // Elements of the matrices that a token of a block meets.
  [[nodiscard]] double attention() const { return 4.0 * inner * d; }
  [[nodiscard]] double cross_queries() const { return 2.0 * inner * d; }
  [[nodiscard]] double cross_keys() const { return 2.0 * inner * d; }
  [[nodiscard]] double feed_forward_in() const { return ff_in * d; }
  [[nodiscard]] double feed_forward_out() const { return d_ff * d; }
};

/// Operations of the forward products of a block.
double block_products(const Widths& w, const BatchShape& batch, bool decoder) {
  const double own = w.attention() + w.feed_forward_in() + w.feed_forward_out();
  if (!decoder) return 2.0 * batch.source_tokens * own;
  return 2.0 * (batch.target_tokens * (own + w.cross_queries()) + batch.source_tokens * w.cross_keys());
}

double block_pairs(const BatchShape& batch, bool decoder) {
  return decoder ? batch.target_pairs + batch.cross_pairs : batch.source_pairs;
}

/// As T5Model::block and block_backward do it.
plan::StageCosts block_costs(const Job& job, const BatchShape& batch, bool decoder, double gradient_bytes) {
  const Widths w(job.source.config);
  const auto element = static_cast<double>(size_of(job.dtype()));
  const double stream = kStreamBytes;
  const double rows = decoder ? batch.target_tokens : batch.source_tokens;
  const double sublayers = decoder ? 3.0 : 2.0;
  const double pairs = block_pairs(batch, decoder);
  const double out_products = 2.0 * rows * w.feed_forward_out();
  const double out_bytes = rows * w.d * 3.0 * stream;  // the last residual_add
  const double norms = rows * w.d * (stream + element + (sublayers - 1.0) * (3.0 * stream + element));
  const double activation = rows * (w.ff_in + w.d_ff) * element;
  // With a mask only the gradient is read, and written in place.
  const double activation_backward =
      rows * (model::masks_activation(job.source.config) ? 2.0 * w.d_ff : 2.0 * w.ff_in + w.d_ff) * element;

  plan::StageCosts costs;
  costs.recompute = {.product_flops = block_products(w, batch, decoder) - out_products,
                     .attention_flops = kAttentionForward * pairs * w.inner,
                     .bytes = norms + activation,
                     .kernels = decoder ? 12.0 : 7.0};
  costs.forward = costs.recompute;
  costs.forward += {.product_flops = out_products, .bytes = out_bytes, .kernels = 2.0};
  const double parameters =
      w.attention() + w.feed_forward_in() + w.feed_forward_out() + (decoder ? w.cross_queries() + w.cross_keys() : 0.0);
  costs.backward = {.product_flops = kBackwardProducts * costs.forward.product_flops,
                    .attention_flops = kAttentionBackward * pairs * w.inner,
                    .bytes = rows * w.d * (stream + element) + activation_backward +
                             rows * w.d * sublayers * (2.0 * element + 3.0 * stream) + parameters * gradient_bytes,
                    .kernels = decoder ? 21.0 : 13.0};
  costs.residual_bytes = rows * w.d * stream;
  return costs;
}

/// Forward and backward, as T5Model::head does it.
plan::StageCosts head_costs(const Job& job, const BatchShape& batch, double gradient_bytes) {
  const Widths w(job.source.config);
  const auto element = static_cast<double>(size_of(job.dtype()));
  const double stream = kStreamBytes;
  const double rows = batch.target_tokens;
  const double parameters = w.vocabulary * w.d;
  const bool trainable = job.layout->trainable(job.layout->head().unit);
  const double products = 2.0 + (trainable ? 1.0 : 0.0);
  return {.forward = {.product_flops = products * 2.0 * rows * parameters,
                      .attention_flops = 0.0,
                      .bytes = rows * w.d * (2.0 * (stream + element) + 2.0 * element + 3.0 * stream) +
                               rows * w.vocabulary * (kLogitBytes + element) +
                               (trainable ? parameters * gradient_bytes : 0.0),
                      .kernels = 4.0 + products + 1.0},
          .recompute = {},
          .backward = {}};
}

plan::MomentFormat moments_of(const Job& job) {
  switch (job.options.optimizer.state_format) {
    case StateFormat::fp32: return plan::MomentFormat::fp32;
    case StateFormat::bf16: return plan::MomentFormat::bf16;
    case StateFormat::int8: return plan::MomentFormat::int8;
  }
  return plan::MomentFormat::fp32;
}

plan::ProductType product_of(const Job& job) {
  switch (job.dtype()) {
    case DType::bf16: return plan::ProductType::bf16;
    case DType::f16: return plan::ProductType::fp16;
    default: return job.options.train.tf32 ? plan::ProductType::tf32 : plan::ProductType::fp32;
  }
}

/// A product's two gradients cost as much as two of it, so a step costs three forward passes.
double forward_flops(const model::T5Config& config, const BatchShape& samples, double attention) {
  const Widths w(config);
  const auto stack = [&](std::int64_t blocks, bool decoder) {
    return static_cast<double>(blocks) *
           (block_products(w, samples, decoder) + attention * block_pairs(samples, decoder) * w.inner);
  };
  return stack(config.num_layers, false) + stack(config.num_decoder_layers, true) +
         2.0 * samples.target_tokens * w.vocabulary * w.d;
}

plan::UnitCosts unit_costs(const Job& job, int unit) {
  const bool trainable = job.gradients.trainable(unit), persistent = job.gradients.persistent(unit);
  const auto ranks = static_cast<double>(job.map->ranks());
  const auto piece = static_cast<double>(job.map->shard_elements(unit));
  const auto whole = piece * ranks;
  const auto wire = static_cast<double>(size_of(job.gradients.reduce));
  const auto at_rest = static_cast<double>(size_of(job.gradients.grad));
  const auto owned = static_cast<double>(job.zero.owned(unit).size());
  plan::UnitCosts costs{.persistent = persistent, .parameters = job.zero.owned(unit).size()};
  costs.gather_link_bytes =
      owned * static_cast<double>(job.zero.shards - 1) * static_cast<double>(size_of(job.dtype()));
  if (!trainable) return costs;
  costs.gradient_bytes = piece * at_rest;
  // Adafactor reads the gradient for its means, for the size of its update, and for the update.
  costs.update_read_bytes = owned * at_rest * (job.adafactor ? 3.0 : 1.0);
  if (job.adafactor)
    for (const TensorSpec& tensor : job.map->tensors())
      if (tensor.unit == unit) costs.prepare.kernels += tensor.shape.rank() == 2 ? kMatrixKernels : kVectorKernels;
  if (!job.gradients.in_place(unit))
    costs.reduce = {.bytes = whole * ((persistent ? kGradientBytes : 0.0) + kGradientBytes + wire), .kernels = 1.0};
  costs.reduce_link_bytes = piece * (ranks - 1.0) * wire + piece * static_cast<double>(job.zero.copies() - 1) * at_rest;
  return costs;
}

}  // namespace

void BatchShape::add(double source, double target) {
  constexpr double kTile = 128.0;  // keys that attention takes at a time, also where only some of them count
  samples += 1.0;
  source_tokens += source;
  target_tokens += target;
  source_pairs += source * source;
  target_pairs += target * (target + std::min(target, kTile)) / 2.0;
  cross_pairs += target * source;
}

BatchShape BatchShape::times(double factor) const {
  return {.samples = factor * samples,
          .source_tokens = factor * source_tokens,
          .target_tokens = factor * target_tokens,
          .source_pairs = factor * source_pairs,
          .target_pairs = factor * target_pairs,
          .cross_pairs = factor * cross_pairs};
}

BatchShape shape_of(const data::Examples& examples) {
  BatchShape shape;
  for (std::int64_t i = 0; i < examples.size(); ++i)
    shape.add(static_cast<double>(examples.source(i).size()), static_cast<double>(examples.target(i).size()));
  return shape;
}

BatchShape mean_micro_batch(const Job& job) {
  const double samples = static_cast<double>(job.global_batch_size) / (job.micro_batches * job.map->ranks());
  if (job.train_examples && !job.worst_lengths) {
    const BatchShape all = shape_of(*job.train_examples);
    // No batch has more samples than there are.
    return all.times(std::min(samples, all.samples) / all.samples);
  }
  BatchShape longest;
  longest.add(static_cast<double>(job.options.data.max_source_length),
              static_cast<double>(job.options.data.max_target_length));
  return longest.times(samples);
}

plan::StageCosts stage_costs(const model::Stage& stage, const Job& job, const BatchShape& batch, bool accumulates) {
  const Widths w(job.source.config);
  const auto element = static_cast<double>(size_of(job.dtype()));
  const double stream = kStreamBytes;
  const double gradient_bytes = job.gradients.in_place(stage.unit) ? static_cast<double>(size_of(job.gradients.grad))
                                                                   : kGradientBytes * (accumulates ? 2.0 : 1.0);
  plan::StageCosts costs;
  switch (stage.kind) {
    case model::StageKind::encoder_embedding:
    case model::StageKind::decoder_embedding: {
      const bool decoder = stage.kind == model::StageKind::decoder_embedding;
      const double elements = (decoder ? batch.target_tokens : batch.source_tokens) * w.d;
      costs.forward = {.bytes = elements * (element + stream), .kernels = 1.0};
      costs.backward = {.bytes = elements * (stream + 2.0 * kGradientBytes), .kernels = 3.0};
      break;
    }
    case model::StageKind::encoder_block: costs = block_costs(job, batch, false, gradient_bytes); break;
    case model::StageKind::decoder_block: costs = block_costs(job, batch, true, gradient_bytes); break;
    case model::StageKind::encoder_output: {
      const double elements = batch.source_tokens * w.d;
      costs.forward = {.bytes = elements * 2.0 * (stream + element), .kernels = 3.0};
      costs.backward = {.bytes = elements * (element + 3.0 * stream), .kernels = 1.0};
      break;
    }
    case model::StageKind::head: costs = head_costs(job, batch, gradient_bytes); break;
  }
  if (!stage.backward) costs = {.forward = costs.forward};
  return costs;
}

double model_flops(const model::T5Config& config, const BatchShape& samples) {
  return 3.0 * forward_flops(config, samples, kAttentionForward);
}

plan::StepCosts costs_of(const Job& job) {
  const BatchShape batch = mean_micro_batch(job);
  plan::StepCosts costs{.gpu = job.on_gpu,
                        .product = product_of(job),
                        .gathers_on_acquire = job.zero.stage == 3 && job.zero.sharded(),
                        .ranks_on_node = job.nodes.ranks_on(job.nodes.node_of(job.zero.rank)),
                        .several_nodes = job.nodes.nodes() > 1,
                        .moments = moments_of(job),
                        // Adafactor sums over the parameters before it updates them.
                        .reads_in_place = job.adafactor ? 1.0 : 0.0};
  for (const model::Stage& stage : job.stages)
    costs.stages.push_back(stage_costs(stage, job, batch, job.micro_batches > 1));
  for (int unit = 0; unit < job.map->units(); ++unit) costs.units.push_back(unit_costs(job, unit));
  costs.model_flops = job.micro_batches * model_flops(job.source.config, batch);
  return costs;
}

}  // namespace spillway::train
