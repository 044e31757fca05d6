// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include <cuda_runtime_api.h>

namespace spillway::cuda {

/// Copies `bytes` between device memory and memory of cudaHostAlloc, or within either, by a kernel in `stream`. The copy engines, which
/// take the copies of all streams one after the other, have no part in it. Does not block.
/// \return what the launch says
[[nodiscard]] cudaError_t copy_by_kernel(cudaStream_t stream, std::byte* to, const std::byte* from, std::size_t bytes);

}  // namespace spillway::cuda
