// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cpu/thread_pool.hpp"
#include "kernels/model_ops.hpp"

namespace spillway::kernels::cpu {

/// The op of the same name. The score products run through OpenBLAS, one thread each.
void attention(ThreadPool& pool, const Attention& op);

/// The op of the same name. d_bias is summed per (sequence, head), then over sequences in ascending order.
void attention_gradient(ThreadPool& pool, const AttentionGradient& op);

}  // namespace spillway::kernels::cpu
