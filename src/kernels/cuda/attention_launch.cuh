// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <cstddef>

#include <cuda_runtime_api.h>

#include "core/cuda/check.hpp"
#include "kernels/cuda/attention_arguments.cuh"

namespace spillway::kernels::cuda {

/// Sees to it that a kernel may have all of a thread block's shared memory that the GPU can give.
/// \return its size; 0 where the kernel was compiled for GPUs before sm_`Architecture`
template <int Architecture>
int most_shared_bytes(const void* kernel, int device) {
  cudaFuncAttributes attributes{};
  spillway::cuda::check(cudaFuncGetAttributes(&attributes, kernel), "cudaFuncGetAttributes");
  if (attributes.ptxVersion < Architecture) return 0;
  int most = 0;
  spillway::cuda::check(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
                        "cudaDeviceGetAttribute");
  most -= static_cast<int>(attributes.sharedSizeBytes);
  spillway::cuda::check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most),
                        "cudaFuncSetAttribute");
  return most;
}

/// A thread block for each block of rows of each head of each sequence. Those of one sequence follow each other: what they read lies side
/// by side.
template <typename T>
dim3 head_grid(const AttentionArguments<T>& op, int blocks) {
  return {static_cast<unsigned>(blocks), static_cast<unsigned>(op.heads), static_cast<unsigned>(op.sequences)};
}

/// Launches a kernel on the tensor cores, of sm_`Architecture` and later, with `bytes` of shared memory. What the GPU can do is asked once for each
/// kernel and GPU: an op is launched many times a step.
/// \param grid  blocks of a sequence, heads, sequences
/// \return false if the GPU has not the instructions or the memory, or no grid is as large, and then nothing is launched
template <auto Kernel, int Architecture, typename Arguments>
bool launch_on_tensor_cores(cudaStream_t stream, const char* name, const dim3& grid, int threads, std::size_t bytes,
                            const Arguments& arguments) {
  constexpr int kDevices = 64;
  static std::array<std::atomic<int>, kDevices> known{};  // most_shared_bytes + 1; 0: not asked
  int device = 0;
  spillway::cuda::check(cudaGetDevice(&device), "cudaGetDevice");
  std::atomic<int>& entry = known[static_cast<std::size_t>(device % kDevices)];
  int most = entry.load() - 1;
  if (most < 0 || device >= kDevices) {
    most = most_shared_bytes<Architecture>(reinterpret_cast<const void*>(Kernel), device);
    entry.store(most + 1);
  }
  constexpr unsigned kMostHigh = 65535;  // of y and z
  if (static_cast<int>(bytes) > most || grid.y > kMostHigh || grid.z > kMostHigh) return false;
  Kernel<<<grid, static_cast<unsigned>(threads), bytes, stream>>>(arguments);
  spillway::cuda::check(cudaGetLastError(), name);
  return true;
}

}  // namespace spillway::kernels::cuda
