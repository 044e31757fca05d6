// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/generation_ops.hpp"

namespace spillway::kernels::cuda {

/// Largest capacity of process_scores: the tokens of a row are in shared memory.
inline constexpr std::int64_t kProcessedLength = 12288;

/// The op of the same name; shapes, that limit, ids and indices are the caller's care.
void process_scores(cudaStream_t stream, const ProcessScores& op);

}  // namespace spillway::kernels::cuda
