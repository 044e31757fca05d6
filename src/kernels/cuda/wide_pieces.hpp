// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/model_ops.hpp"

namespace spillway::kernels::cuda {

/// A float as the sum of three numbers in 16 bits: high is the float rounded, middle what then is left rounded, low the rest. In bf16
/// the sum is exact. f16 reaches less far down, so there middle and low are multiplied before they are rounded, and count less by
/// weight_of(): the sum is exact from 2^-23 on, and below that has an error of at most 2^-47. What f16 cannot hold, from 65520 on,
/// becomes infinity and the sum not a number.
enum class Piece { high, middle, low };

/// What a piece counts: 1 in bf16; 1, 2^-11 and 2^-22 in f16.
[[nodiscard]] float weight_of(Piece piece, DType dtype) noexcept;

/// to = one piece of each element of `from`. from f32, to bf16 or f16, the same shape.
void take_piece(cudaStream_t stream, Piece piece, const ConstTensorView& from, const TensorView& to);

/// to = sums (+ to), rounded once. sums f32, to f32, bf16 or f16, the same shape.
void round_sums(cudaStream_t stream, const ConstTensorView& sums, Output output, const TensorView& to);

}  // namespace spillway::kernels::cuda
