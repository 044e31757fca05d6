// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "core/cuda/check.hpp"
#include "kernels/cuda/gpu_copies.hpp"
#include "kernels/cuda/workspace.hpp"

namespace spillway::kernels::test {

/// Launchers of generation's ops, and where those that need a distribution report that a row has none.
class GenerationOnGpu : public GpuTest {
 protected:
  cuda::NoDistribution* failure() {
    auto* const failure = reinterpret_cast<cuda::NoDistribution*>(allocate(sizeof(cuda::NoDistribution)));
    spillway::cuda::check(cudaMemsetAsync(failure, 0xFF, sizeof(cuda::NoDistribution), stream_), "cudaMemsetAsync");
    return failure;
  }
};

}  // namespace spillway::kernels::test
