// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "kernels/generation_ops.hpp"
#include "kernels/model_ops.hpp"
#include "kernels/optimizer_ops.hpp"

namespace spillway::kernels::cpu {

/// A rank's compute threads. parallel_for may be called by several threads at once; the caller works too.
class ThreadPool;
struct ThreadPlacement;

/// \param threads  that work on one op, the caller included; at least 1
[[nodiscard]] std::shared_ptr<ThreadPool> make_thread_pool(int threads);
/// With workers bound to CPUs (thread_placement.hpp).
[[nodiscard]] std::shared_ptr<ThreadPool> make_thread_pool(const ThreadPlacement& placement);

/// The truth: f32 or bf16 storage, fp32 arithmetic (softmax, norms and losses in fp32, long sums in blocks), GEMMs through OpenBLAS.
[[nodiscard]] std::unique_ptr<ModelOps> make_model_ops(std::shared_ptr<ThreadPool> pool);
[[nodiscard]] std::unique_ptr<OptimizerOps> make_optimizer_ops(std::shared_ptr<ThreadPool> pool);
[[nodiscard]] std::unique_ptr<GenerationOps> make_generation_ops(std::shared_ptr<ThreadPool> pool);

}  // namespace spillway::kernels::cpu
