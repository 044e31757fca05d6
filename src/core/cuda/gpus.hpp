// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "core/cuda_device.hpp"

namespace spillway::cuda {

/// The index in `gpus` of the one with that UUID, with or without the "GPU-" in front, in any case; empty: the first.
/// \throws CudaError if there is none; names those that there are
[[nodiscard]] int find_gpu(const std::vector<CudaGpu>& gpus, const std::string& uuid);

}  // namespace spillway::cuda
