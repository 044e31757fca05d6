// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>

#include <cuda_runtime_api.h>

#include "kernels/cuda/launch.hpp"

namespace spillway::kernels::cuda {

/// Octets of one row that a thread of a row grid works on: two, all read before the first is used.
inline constexpr int kOctetsOfThread = 2;

/// Blocks of kThreads threads or a few fewer for an op on the octets of rows that needs no sums, cut so that a kernel has nothing to
/// divide: thread (x, y) of block (i, j) has row i · blockDim.y + y, and there the octets kOctetsOfThread · j · blockDim.x + x and each
/// blockDim.x further.
struct RowGrid {
  RowGrid(std::int64_t rows, std::int64_t octets) {
    const auto up = [](std::int64_t value, std::int64_t by) { return (value + by - 1) / by; };
    const std::int64_t parts = up(octets, kOctetsOfThread * kThreads);
    const std::int64_t across = up(up(octets, parts * kOctetsOfThread), 32) * 32;
    const std::int64_t down = std::max<std::int64_t>(1, kThreads / across);
    block = dim3(static_cast<unsigned>(across), static_cast<unsigned>(down));
    grid = dim3(static_cast<unsigned>(up(rows, down)), static_cast<unsigned>(parts));
  }
  dim3 grid, block;
};

}  // namespace spillway::kernels::cuda
