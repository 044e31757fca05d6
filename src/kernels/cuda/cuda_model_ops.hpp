// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "kernels/cuda/matrix_products.hpp"
#include "kernels/model_ops.hpp"

namespace spillway::kernels::cuda {

/// Checks the arguments and launches: what is done is in the launchers' headers.
class CudaModelOps : public ModelOps {
 public:
  CudaModelOps(std::span<std::byte> workspace, const ModelOpsOptions& options);

  void linear(Queue& queue, const Linear& op) override;
  void linear_input_gradient(Queue& queue, const LinearInputGradient& op) override;
  void linear_weight_gradient(Queue& queue, const LinearWeightGradient& op) override;
  void embedding(Queue& queue, const Embedding& op) override;
  void embedding_gradient(Queue& queue, const EmbeddingGradient& op) override;
  void residual_norm(Queue& queue, const ResidualNorm& op) override;
  void residual_norm_gradient(Queue& queue, const ResidualNormGradient& op) override;
  void residual_add(Queue& queue, const ResidualAdd& op) override;
  void residual_add_gradient(Queue& queue, const ResidualAddGradient& op) override;
  void activation(Queue& queue, const Activation& op) override;
  void activation_gradient(Queue& queue, const ActivationGradient& op) override;
  void attention(Queue& queue, const Attention& op) override;
  void attention_gradient(Queue& queue, const AttentionGradient& op) override;
  void cross_entropy(Queue& queue, const CrossEntropy& op) override;
  void fill_zero(Queue& queue, TensorView tensor) override;
  void add(Queue& queue, ConstTensorView from, TensorView to) override;
  void convert(Queue& queue, ConstTensorView from, TensorView to) override;

 private:
  /// What cuBLASLt does not use while a product runs.
  [[nodiscard]] std::span<std::byte> pieces() const;

  std::span<std::byte> workspace_;  // of one op at a time
  MatrixProducts products_;
};

}  // namespace spillway::kernels::cuda
