// SPDX-License-Identifier: Apache-2.0
#include "core/cuda/driver_memory.hpp"

#include <dlfcn.h>

namespace spillway::cuda {
namespace {

// The part of NVML that is needed, whose header the toolkit's packages do not always bring. Its functions return 0 if they did it.
struct NvmlMemory {
  unsigned long long total, free, used;
};

class Nvml {
 public:
  Nvml() : library_(dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL)) {
    if (library_ == nullptr) return;
    find("nvmlDeviceGetHandleByUUID", handle_by_uuid_);
    find("nvmlDeviceGetMemoryInfo", memory_info_);
    int (*init)() = nullptr;
    find("nvmlInit_v2", init);
    works_ = init != nullptr && handle_by_uuid_ != nullptr && memory_info_ != nullptr && init() == 0;
  }

  [[nodiscard]] std::optional<std::size_t> used(const std::string& uuid) const {
    void* device = nullptr;
    NvmlMemory memory{};
    if (!works_ || handle_by_uuid_(uuid.c_str(), &device) != 0 || memory_info_(device, &memory) != 0)
      return std::nullopt;
    return static_cast<std::size_t>(memory.used);
  }

 private:
  template <typename Function>
  void find(const char* name, Function*& function) {
    function = reinterpret_cast<Function*>(dlsym(library_, name));
  }

  void* library_;  // stays loaded: closing it would not give memory back
  int (*handle_by_uuid_)(const char*, void**) = nullptr;
  int (*memory_info_)(void*, NvmlMemory*) = nullptr;
  bool works_ = false;
};

}  // namespace

std::optional<std::size_t> driver_used_bytes(const std::string& uuid) {
  static const Nvml nvml;
  return nvml.used(uuid);
}

}  // namespace spillway::cuda
