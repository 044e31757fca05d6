// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cpu/thread_pool.hpp"
#include "kernels/model_ops.hpp"

namespace spillway::kernels::cpu {

/// \throws Error if an id is not in the table
void embedding(ThreadPool& pool, const Embedding& op);
void embedding_gradient(ThreadPool& pool, const EmbeddingGradient& op);

}  // namespace spillway::kernels::cpu
