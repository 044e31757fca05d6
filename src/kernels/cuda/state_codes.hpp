// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include <cuda_runtime_api.h>

#include "kernels/cuda/workspace.hpp"

namespace spillway::kernels::cuda {

/// Copies both tables to `to`, sizeof(StateCodeTables) bytes of the GPU, in the stream's order. Waits for it.
const StateCodeTables* upload_state_codes(cudaStream_t stream, std::byte* to);

}  // namespace spillway::kernels::cuda
