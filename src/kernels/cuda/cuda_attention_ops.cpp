// SPDX-License-Identifier: Apache-2.0
#include "core/cuda/cuda_queue.hpp"
#include "kernels/checks.hpp"
#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/cuda_model_ops.hpp"

namespace spillway::kernels::cuda {

void CudaModelOps::attention(Queue& queue, const Attention& op) {
  check(op);
  cuda::attention(spillway::cuda::stream_of(queue), workspace_, op);
}

void CudaModelOps::attention_gradient(Queue& queue, const AttentionGradient& op) {
  check(op);
  cuda::attention_gradient(spillway::cuda::stream_of(queue), workspace_, op);
}

}  // namespace spillway::kernels::cuda
