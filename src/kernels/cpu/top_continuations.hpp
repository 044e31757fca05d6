// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include "kernels/cpu/thread_pool.hpp"
#include "kernels/generation_ops.hpp"

namespace spillway::kernels::cpu {

/// The op of the same name. Shapes are the caller's care. \throws DataError as normaliser_of() does
void top_continuations(ThreadPool& pool, const TopContinuations& op);

/// The memory that it takes besides its tensors while it runs: for the ledger.
[[nodiscard]] std::size_t top_continuations_workspace_bytes(std::int64_t items, std::int64_t beams,
                                                            std::int64_t count) noexcept;

}  // namespace spillway::kernels::cpu
