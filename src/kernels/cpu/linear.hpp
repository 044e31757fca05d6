// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cpu/thread_pool.hpp"
#include "kernels/model_ops.hpp"

namespace spillway::kernels::cpu {

void linear(ThreadPool& pool, const Linear& op);
void linear_input_gradient(ThreadPool& pool, const LinearInputGradient& op);
void linear_weight_gradient(ThreadPool& pool, const LinearWeightGradient& op);

}  // namespace spillway::kernels::cpu
