// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cpu/thread_pool.hpp"
#include "kernels/generation_ops.hpp"

namespace spillway::kernels::cpu {

/// The op of the same name. Shapes, ids and indices are the caller's care.
void process_scores(ThreadPool& pool, const ProcessScores& op);

}  // namespace spillway::kernels::cpu
