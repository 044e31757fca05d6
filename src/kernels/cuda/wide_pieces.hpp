// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/model_ops.hpp"

namespace spillway::kernels::cuda {

/// A float as the exact sum of three numbers in bf16: high is the float rounded, middle what then is left rounded, low the rest.
enum class Piece { high, middle, low };

/// to = one piece of each element of `from`. from f32, to bf16, the same shape.
void take_piece(cudaStream_t stream, Piece piece, const ConstTensorView& from, const TensorView& to);

/// to = sums (+ to), rounded once. sums f32, to f32 or bf16, the same shape.
void round_sums(cudaStream_t stream, const ConstTensorView& sums, Output output, const TensorView& to);

}  // namespace spillway::kernels::cuda
