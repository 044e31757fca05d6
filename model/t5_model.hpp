// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "kernels/model_ops.hpp"
#include "model/activations.hpp"
#include "model/micro_batch.hpp"
#include "model/ports.hpp"
#include "model/stages.hpp"
#include "model/t5_config.hpp"
#include "model/t5_layout.hpp"

namespace spillway::model {

/// The mathematics of T5, stage by stage (transformers' modeling_t5.py; docs/walkthrough.md). It owns no memory and no weights: those
/// come through the two ports. Everything runs in the queue's order.
class T5Model {
 public:
  /// \param scratch  from carve_scratch with the limits of the largest micro-batch; its dtype is that of the weights and of the
  ///                 activations (activations.hpp). All references must outlive the model.
  T5Model(const T5Config& config, const T5Layout& layout, kernels::ModelOps& ops, ParameterSource& parameters,
          ResidualStore& residuals, const Scratch& scratch);

  [[nodiscard]] const std::vector<Stage>& stages() const noexcept { return stages_; }

  /// Runs one stage of a micro-batch forward. The head stage writes batch.losses; with a gradient_scale it also does the head's
  /// backward pass at once, so that logits exist a chunk at a time.
  void forward(Queue& queue, int stage, const MicroBatch& batch, const PassOptions& options);

  /// Runs one stage backward: its weights' gradients are added to, the gradient of its input is left for the stage before.
  /// Nothing is left to do for the head stage, nor for one without a backward pass (Stage::backward). Gradients of frozen units are
  /// never asked for.
  void backward(Queue& queue, int stage, const MicroBatch& batch, const PassOptions& options);

  /// The encoder's output of a micro-batch, (source rows, d_model), after the encoder_output stage.
  [[nodiscard]] TensorView encoder_output(const MicroBatch& batch);

  /// The residual stream as a stage reads it, (rows, d_model), in the memory of its residuals: not of embedding stages, which read ids.
  [[nodiscard]] TensorView input_of(int stage, const MicroBatch& batch);

 private:
  /// Which rows a stage runs on: the decoder's or the encoder's.
  [[nodiscard]] bool in_decoder(int stage) const { return stage > encoder_output_stage_; }
  [[nodiscard]] const kernels::PackedSequences& rows_of(int stage, const MicroBatch& batch) const;
  [[nodiscard]] OutputActivations output_of(int stage, const MicroBatch& batch);
  [[nodiscard]] TensorView stream_gradient(int stage, const MicroBatch& batch);
  [[nodiscard]] BlockActivations block_of(int stage, const MicroBatch& batch, bool kept);
  [[nodiscard]] kernels::Dropout dropout_at(int stage, int site, const MicroBatch& batch,
                                            const PassOptions& options) const;
  [[nodiscard]] ConstTensorView weight(const Place& place, Shape shape);
  [[nodiscard]] TensorView gradient(const Place& place, Shape shape);
  [[nodiscard]] const Place& norm_place(int stage, int sublayer) const;
  [[nodiscard]] const Place& bias_place(int stage) const;
  /// Whether the stage's backward pass will run and its forward pass keeps what that needs.
  [[nodiscard]] bool needs_gradient(int stage, const MicroBatch& batch) const;
  [[nodiscard]] kernels::Attention self_attention(int stage, const MicroBatch& batch, const PassOptions& options,
                                                  const BlockActivations& a);
  [[nodiscard]] kernels::Attention cross_attention(int stage, const MicroBatch& batch, const PassOptions& options,
                                                   const BlockActivations& a);

  void embed(Queue& queue, int stage, const MicroBatch& batch, const PassOptions& options);
  void embed_backward(Queue& queue, int stage, const MicroBatch& batch, const PassOptions& options);
  void final_norm(Queue& queue, int stage, const MicroBatch& batch, const PassOptions& options);
  void final_norm_backward(Queue& queue, int stage, const MicroBatch& batch, const PassOptions& options);
  void head(Queue& queue, int stage, const MicroBatch& batch, const PassOptions& options);
  void block(Queue& queue, int stage, const MicroBatch& batch, const PassOptions& options, bool recompute);
  void block_backward(Queue& queue, int stage, const MicroBatch& batch, const PassOptions& options);

  const T5Config& config_;
  const T5Layout& layout_;
  kernels::ModelOps& ops_;
  ParameterSource& parameters_;
  ResidualStore& residuals_;
  Scratch scratch_;
  DType dtype_;
  std::vector<Stage> stages_;
  int encoder_output_stage_ = 0;
};

}  // namespace spillway::model
