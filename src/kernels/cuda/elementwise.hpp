// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/model_ops.hpp"

namespace spillway::kernels::cuda {

void residual_add(cudaStream_t stream, const ResidualAdd& op);
void residual_add_gradient(cudaStream_t stream, const ResidualAddGradient& op);
/// Zero bytes, of any dtype.
void fill_zero(cudaStream_t stream, const TensorView& tensor);
void add(cudaStream_t stream, const ConstTensorView& from, const TensorView& to);
void convert(cudaStream_t stream, const ConstTensorView& from, const TensorView& to);

}  // namespace spillway::kernels::cuda
