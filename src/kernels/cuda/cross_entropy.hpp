// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/model_ops.hpp"

namespace spillway::kernels::cuda {

/// A label outside the vocabulary stops the kernel: the stream reports it as an error where it is waited for.
void cross_entropy(cudaStream_t stream, const CrossEntropy& op);

}  // namespace spillway::kernels::cuda
