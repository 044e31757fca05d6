// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/cuda_model_ops.hpp"

#include "core/cuda/cuda_queue.hpp"
#include "kernels/checks.hpp"
#include "kernels/cuda/activation.hpp"
#include "kernels/cuda/cross_entropy.hpp"
#include "kernels/cuda/cuda_kernels.hpp"
#include "kernels/cuda/elementwise.hpp"
#include "kernels/cuda/embedding.hpp"
#include "kernels/cuda/linear.hpp"
#include "kernels/cuda/residual_norm.hpp"
#include "kernels/cuda/workspace.hpp"

namespace spillway::kernels::cuda {

using spillway::cuda::stream_of;

CudaModelOps::CudaModelOps(std::span<std::byte> workspace, const ModelOpsOptions& options)
    : workspace_(workspace), products_(workspace, options) {}

std::span<std::byte> CudaModelOps::pieces() const { return workspace_.subspan(kProductBytes); }

void CudaModelOps::linear(Queue& queue, const Linear& op) {
  check(op);
  cuda::linear(stream_of(queue), products_, op);
}
void CudaModelOps::linear_input_gradient(Queue& queue, const LinearInputGradient& op) {
  check(op);
  cuda::linear_input_gradient(stream_of(queue), products_, pieces(), op);
}
void CudaModelOps::linear_weight_gradient(Queue& queue, const LinearWeightGradient& op) {
  check(op);
  cuda::linear_weight_gradient(stream_of(queue), products_, pieces(), op);
}

void CudaModelOps::embedding(Queue& queue, const Embedding& op) {
  check(op);
  cuda::embedding(stream_of(queue), op);
}
void CudaModelOps::embedding_gradient(Queue& queue, const EmbeddingGradient& op) {
  check(op);
  cuda::embedding_gradient(stream_of(queue), workspace_, op);
}

void CudaModelOps::residual_norm(Queue& queue, const ResidualNorm& op) {
  check(op);
  cuda::residual_norm(stream_of(queue), op);
}
void CudaModelOps::residual_norm_gradient(Queue& queue, const ResidualNormGradient& op) {
  check(op);
  cuda::residual_norm_gradient(stream_of(queue), workspace_, op);
}
void CudaModelOps::residual_add(Queue& queue, const ResidualAdd& op) {
  check(op);
  cuda::residual_add(stream_of(queue), op);
}
void CudaModelOps::residual_add_gradient(Queue& queue, const ResidualAddGradient& op) {
  check(op);
  cuda::residual_add_gradient(stream_of(queue), op);
}

void CudaModelOps::activation(Queue& queue, const Activation& op) {
  check(op);
  cuda::activation(stream_of(queue), op);
}
void CudaModelOps::activation_gradient(Queue& queue, const ActivationGradient& op) {
  check(op);
  cuda::activation_gradient(stream_of(queue), op);
}

void CudaModelOps::cross_entropy(Queue& queue, const CrossEntropy& op) {
  check(op);
  cuda::cross_entropy(stream_of(queue), op);
}
void CudaModelOps::fill_zero(Queue& queue, TensorView tensor) { cuda::fill_zero(stream_of(queue), tensor); }
void CudaModelOps::add(Queue& queue, ConstTensorView from, TensorView to) {
  check_add(from, to);
  cuda::add(stream_of(queue), from, to);
}
void CudaModelOps::convert(Queue& queue, ConstTensorView from, TensorView to) {
  check_convert(from, to);
  cuda::convert(stream_of(queue), from, to);
}

std::unique_ptr<ModelOps> make_model_ops(std::span<std::byte> workspace, const ModelOpsOptions& options) {
  return std::make_unique<CudaModelOps>(workspace, options);
}

}  // namespace spillway::kernels::cuda
