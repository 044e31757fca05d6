// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include <cuda_runtime_api.h>

#include "kernels/cuda/matrix_products.hpp"
#include "kernels/model_ops.hpp"

namespace spillway::kernels::cuda {

void linear(cudaStream_t stream, MatrixProducts& products, const Linear& op);
/// \param pieces  device memory, at least kPieceBytes, on a 256-byte boundary: used if dy is f32 and w is not
void linear_input_gradient(cudaStream_t stream, MatrixProducts& products, std::span<std::byte> pieces,
                           const LinearInputGradient& op);
void linear_weight_gradient(cudaStream_t stream, MatrixProducts& products, std::span<std::byte> pieces,
                            const LinearWeightGradient& op);

}  // namespace spillway::kernels::cuda
