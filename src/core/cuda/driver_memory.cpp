// SPDX-License-Identifier: Apache-2.0
#include "core/cuda/driver_memory.hpp"

#include <algorithm>
#include <utility>

#include <dlfcn.h>

namespace spillway::cuda {
namespace {

// The part of NVML that is needed, whose header the toolkit's packages do not always bring. Its functions return 0 if they did it.
struct NvmlMemory {
  unsigned long long total, free, used;
};

template <typename Function>
void find(void* library, const char* name, Function*& function) {
  function = reinterpret_cast<Function*>(dlsym(library, name));
}

}  // namespace

DriverMemory::DriverMemory(std::string uuid) : uuid_(std::move(uuid)) {
  // Stays loaded, and initialised, as long as the process: others may use it too.
  void* const library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return;
  int (*init)() = nullptr;
  find(library, "nvmlInit_v2", init);
  if (init == nullptr || init() != 0) return;
  find(library, "nvmlDeviceGetHandleByUUID", handle_by_uuid_);
  find(library, "nvmlDeviceGetMemoryInfo", memory_info_);
  before_ = used_bytes();
}

std::optional<std::size_t> DriverMemory::used_bytes() const {
  if (handle_by_uuid_ == nullptr || memory_info_ == nullptr) return std::nullopt;
  void* device = nullptr;
  NvmlMemory memory{};
  if (handle_by_uuid_(uuid_.c_str(), &device) != 0 || memory_info_(device, &memory) != 0) return std::nullopt;
  return static_cast<std::size_t>(memory.used);
}

std::optional<std::size_t> DriverMemory::taken_bytes() const {
  const std::optional<std::size_t> now = used_bytes();
  if (!now || !before_) return std::nullopt;
  return *now - std::min(*now, *before_);
}

}  // namespace spillway::cuda
