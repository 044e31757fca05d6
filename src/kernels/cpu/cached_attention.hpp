// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cpu/thread_pool.hpp"
#include "kernels/generation_ops.hpp"

namespace spillway::kernels::cpu {

/// The op of the same name; shapes are the caller's care.
void cached_self_attention(ThreadPool& pool, const CachedSelfAttention& op);

/// The op of the same name; shapes are the caller's care.
void cached_cross_attention(ThreadPool& pool, const CachedCrossAttention& op);

}  // namespace spillway::kernels::cpu
