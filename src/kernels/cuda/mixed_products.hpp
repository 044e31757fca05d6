// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include <cuda_runtime_api.h>

#include "kernels/cuda/matrix_products.hpp"
#include "kernels/model_ops.hpp"

namespace spillway::kernels::cuda {

// Gradients where dy is f32 and w or x is bf16 or f16. Tensor cores take no such pair, and to widen the other factor would cost more
// memory and, without them, more time; so dy is split into three pieces of that type whose sum it is, and there are three products.
// \param pieces  device memory, at least kPieceBytes: dy is worked on as many rows at a time as fit

void mixed_input_gradient(cudaStream_t stream, MatrixProducts& products, std::span<std::byte> pieces,
                          const LinearInputGradient& op);
void mixed_weight_gradient(cudaStream_t stream, MatrixProducts& products, std::span<std::byte> pieces,
                           const LinearWeightGradient& op);

}  // namespace spillway::kernels::cuda
