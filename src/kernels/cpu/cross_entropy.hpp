// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cpu/thread_pool.hpp"
#include "kernels/model_ops.hpp"

namespace spillway::kernels::cpu {

/// \throws Error if a label is not below the number of logits
void cross_entropy(ThreadPool& pool, const CrossEntropy& op);

}  // namespace spillway::kernels::cpu
