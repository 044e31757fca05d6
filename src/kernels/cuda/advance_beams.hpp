// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/generation_ops.hpp"

namespace spillway::kernels::cuda {

/// Most beams of an item that advance_beams can reorder: their places are in shared memory.
inline constexpr std::int64_t kAdvancedBeams = 256;

/// The op of the same name; shapes, that limit, rows and tokens are the caller's care. The results have the CPU's bits.
void advance_beams(cudaStream_t stream, const AdvanceBeams& op);

}  // namespace spillway::kernels::cuda
