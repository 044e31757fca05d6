// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/optimizer_ops.hpp"

namespace spillway::kernels::cuda {

/// The op of the same name; views are the caller's care. The bits are those of the CPU form.
void sum_of_squares(cudaStream_t stream, const SumOfSquares& op);

}  // namespace spillway::kernels::cuda
