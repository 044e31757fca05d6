// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/cuda_device.hpp"
#include "core/device.hpp"
#include "plan/machine_profile.hpp"

namespace spillway::train {

struct GpuMeasures {
  plan::GpuProfile gpu;
  plan::PcieProfile pcie;
};

/// Measures products, memory, AdamW and copies of one GPU through the ops that train uses, in a few seconds. Takes what is free of
/// device memory, at most 2 GiB, and 512 MiB of pinned host memory.
/// \param device  of that GPU
/// \throws Error if less than 1 GiB of device memory is free
[[nodiscard]] GpuMeasures measure_gpu(Device& device, const CudaGpu& gpu);

}  // namespace spillway::train
