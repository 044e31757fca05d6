// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include <cuda_runtime_api.h>

#include "kernels/model_ops.hpp"

namespace spillway::kernels::cuda {

void residual_norm(cudaStream_t stream, const ResidualNorm& op);
/// d_weight is summed over blocks of rows, and then over blocks, whose number depends on the number of rows alone.
/// \param workspace  at least residual_norm_workspace_bytes(width), on a 256-byte boundary
void residual_norm_gradient(cudaStream_t stream, std::span<std::byte> workspace, const ResidualNormGradient& op);

}  // namespace spillway::kernels::cuda
