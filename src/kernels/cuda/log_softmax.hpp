// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/workspace.hpp"
#include "kernels/generation_ops.hpp"

namespace spillway::kernels::cuda {

/// The op of the same name; shapes are the caller's care. Rows without a distribution become NaN.
/// \param failure  as the GPU addresses it; one such row, if there are any, is written there
void log_softmax(cudaStream_t stream, const LogSoftmax& op, NoDistribution* failure);

}  // namespace spillway::kernels::cuda
