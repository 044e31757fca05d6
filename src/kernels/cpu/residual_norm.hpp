// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cpu/thread_pool.hpp"
#include "kernels/model_ops.hpp"

namespace spillway::kernels::cpu {

void residual_norm(ThreadPool& pool, const ResidualNorm& op);
/// d_weight is summed in at most 64 blocks of rows, whose number depends on the rows only, then over the blocks in
/// fp64.
void residual_norm_gradient(ThreadPool& pool, const ResidualNormGradient& op);

}  // namespace spillway::kernels::cpu
