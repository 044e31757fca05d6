// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cpu/thread_pool.hpp"
#include "kernels/model_ops.hpp"

namespace spillway::kernels::cpu {

void activation(ThreadPool& pool, const Activation& op);
void activation_gradient(ThreadPool& pool, const ActivationGradient& op);

}  // namespace spillway::kernels::cpu
