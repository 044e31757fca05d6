// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/thread_pool.hpp"
#include "kernels/model_ops.hpp"

namespace spillway::kernels::cpu {

void residual_norm(ThreadPool& pool, const ResidualNorm& op);
/// d_weight is summed in at most 64 blocks of rows, whose number depends on the rows only, then over the blocks in
/// fp64.
void residual_norm_gradient(ThreadPool& pool, const ResidualNormGradient& op);

/// The most memory that the gradient of rows of `width` elements takes besides its tensors: for the ledger. A thread that
/// calls it grows to this and keeps it.
[[nodiscard]] std::size_t residual_norm_workspace_bytes(std::int64_t width) noexcept;

}  // namespace spillway::kernels::cpu
