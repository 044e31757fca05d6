// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "core/device.hpp"

namespace spillway {

/// A GPU that this process may use.
struct CudaGpu {
  std::string name;        ///< as the driver calls it: "NVIDIA H200"
  std::string uuid;        ///< "GPU-" and 36 characters: the same in every process, whatever a scheduler hides
  int capability_major{};  ///< compute capability: 9 of 9.0
  int capability_minor{};
  std::size_t total_bytes{};  ///< device memory, with what the driver keeps to itself
  std::string pci_bus_id;     ///< "0000:1b:00.0"
};

struct CudaDeviceOptions {
  /// The GPU of this rank; empty: the first that is visible, which is right where each rank sees one.
  std::string uuid;
  /// What device memory allocated here may never exceed, in bytes. The CUDA context and libraries come on top.
  std::size_t budget_bytes = std::numeric_limits<std::size_t>::max();
};

/// Whether this build has the CUDA backend. If not, the functions below throw NotCompiled.
[[nodiscard]] bool cuda_compiled() noexcept;

/// The visible GPUs in the driver's order; empty if there is none. Starts no context.
/// \throws CudaError if there is no driver, or one too old
[[nodiscard]] std::vector<CudaGpu> list_cuda_gpus();

/// A GPU as a device, current for the calling thread and for its worker queues' threads. Its compute queues are streams
/// of their own; CUDA's own calls fail with CudaError, at the first call after the GPU failed.
/// \throws CudaError if no GPU is visible, or none with that UUID
[[nodiscard]] std::unique_ptr<Device> make_cuda_device(const CudaDeviceOptions& options);

}  // namespace spillway
