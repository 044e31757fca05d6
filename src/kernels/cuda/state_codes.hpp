// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include <cuda_runtime_api.h>

#include "kernels/dynamic_map.hpp"

namespace spillway::kernels::cuda {

/// DynamicCodes as the GPU reads it: small enough to stay in the first-level cache.
struct StateCodes {
  std::array<float, 256> map, above;
  std::int32_t zero, largest_negative;
  std::array<std::uint8_t, DynamicCodes::kCells> first;
};

/// The codes of both signs, in the GPU's memory.
struct StateCodeTables {
  StateCodes either, nonnegative;
};

/// Copies both tables to `to`, sizeof(StateCodeTables) bytes of the GPU, in the stream's order. Waits for it.
const StateCodeTables* upload_state_codes(cudaStream_t stream, std::byte* to);

}  // namespace spillway::kernels::cuda
