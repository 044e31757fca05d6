// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cpu/thread_pool.hpp"
#include "kernels/model_ops.hpp"

namespace spillway::kernels::cpu {

void attention(ThreadPool& pool, const Attention& op);
void attention_gradient(ThreadPool& pool, const AttentionGradient& op);

}  // namespace spillway::kernels::cpu
