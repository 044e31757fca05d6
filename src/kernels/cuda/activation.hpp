// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/model_ops.hpp"

namespace spillway::kernels::cuda {

void activation(cudaStream_t stream, const Activation& op);
void activation_gradient(cudaStream_t stream, const ActivationGradient& op);

}  // namespace spillway::kernels::cuda
