// SPDX-License-Identifier: Apache-2.0
#include "core/cuda/gpus.hpp"

#include <array>
#include <cctype>
#include <cstddef>

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include "core/cuda/check.hpp"
#include "core/error.hpp"

namespace spillway {
namespace {

std::string uuid_text(const cudaUUID_t& uuid) {
  std::string text = "GPU";
  for (std::size_t i = 0; i < sizeof uuid.bytes; ++i) {
    if (i == 0 || i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += fmt::format("{:02x}", static_cast<unsigned char>(uuid.bytes[i]));
  }
  return text;
}

CudaGpu describe(int index) {
  cudaDeviceProp properties{};
  cuda::check(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties");
  std::array<char, 32> pci_bus_id{};
  cuda::check(cudaDeviceGetPCIBusId(pci_bus_id.data(), static_cast<int>(pci_bus_id.size()), index),
              "cudaDeviceGetPCIBusId");
  return {.name = properties.name,
          .uuid = uuid_text(properties.uuid),
          .capability_major = properties.major,
          .capability_minor = properties.minor,
          .total_bytes = properties.totalGlobalMem,
          .pci_bus_id = pci_bus_id.data()};
}

// The digits alone: a part of a GPU is "MIG-" to the driver's tools and has no such word in its properties.
std::string digits_of(const std::string& uuid) {
  std::string digits;
  for (const char letter : uuid.starts_with("GPU-") || uuid.starts_with("MIG-") ? uuid.substr(4) : uuid)
    digits += static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
  return digits;
}

}  // namespace

std::vector<CudaGpu> list_cuda_gpus() {
  int count = 0;
  const cudaError_t result = cudaGetDeviceCount(&count);
  if (result == cudaErrorNoDevice) {
    static_cast<void>(cudaGetLastError());
    return {};
  }
  cuda::check(result, result == cudaErrorInsufficientDriver ? "no NVIDIA driver, or one too old: cudaGetDeviceCount"
                                                            : "cudaGetDeviceCount");
  std::vector<CudaGpu> gpus;
  for (int index = 0; index < count; ++index) gpus.push_back(describe(index));
  return gpus;
}

int cuda::find_gpu(const std::vector<CudaGpu>& gpus, const std::string& uuid) {
  if (gpus.empty()) throw CudaError("no GPU is visible to this process");
  if (uuid.empty()) return 0;
  std::string visible;
  for (std::size_t index = 0; index < gpus.size(); ++index) {
    if (digits_of(gpus[index].uuid) == digits_of(uuid)) return static_cast<int>(index);
    visible += fmt::format("{}{} ({})", index == 0 ? "" : ", ", gpus[index].uuid, gpus[index].name);
  }
  throw CudaError(fmt::format("{} is not visible to this process, which sees {}", uuid, visible));
}

}  // namespace spillway
