// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>

#include <cuda_runtime_api.h>

#include "core/cuda/check.hpp"

namespace spillway::kernels::cuda {

/// Threads of a block where nothing asks for another number.
inline constexpr int kThreads = 256;

/// Blocks of kThreads threads that give each of `items` a thread of its own. At least 1, at most a grid has.
[[nodiscard]] inline unsigned blocks_for(std::int64_t items) {
  return static_cast<unsigned>(std::clamp<std::int64_t>((items + kThreads - 1) / kThreads, 1, 2147483647));
}

/// After a launch: whether the kernel was accepted. What it does comes to light where the stream is waited for.
inline void check_launch(const char* kernel) { spillway::cuda::check(cudaGetLastError(), kernel); }

}  // namespace spillway::kernels::cuda
