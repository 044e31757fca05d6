// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>

#include "core/dtype.hpp"
#include "core/tensor_view.hpp"

namespace spillway::comm {

/// target[i] = Σ_r pieces[r][i], in fp32 in the order of r, rounded once to nearest even if `target` is narrower. Every
/// backend sums here, which is why they give the same bits.
/// \param pieces  one or more arrays in host memory of target.elements() elements; any of them may be `target` itself
///                if its dtype is `wire`
/// \param wire    dtype of the pieces: f32, bf16 or f16
/// \param target  f32 or `wire`, in host memory
void sum_in_rank_order(std::span<const std::byte* const> pieces, DType wire, TensorView target);

}  // namespace spillway::comm
