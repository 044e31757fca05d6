// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include "kernels/cpu/thread_pool.hpp"
#include "kernels/generation_ops.hpp"

namespace spillway::kernels::cpu {

/// The op of the same name; log_softmax(x) = (x - max) - log Σ exp(x - max) in fp32, as PyTorch has it. Shapes are the
/// caller's care. \throws DataError naming the row if its logits hold a NaN or an infinity that leaves no distribution
void top_continuations(ThreadPool& pool, const TopContinuations& op);

/// The memory that it takes besides its tensors while it runs: for the ledger.
[[nodiscard]] std::size_t top_continuations_workspace_bytes(std::int64_t items, std::int64_t beams,
                                                            std::int64_t count) noexcept;

}  // namespace spillway::kernels::cpu
