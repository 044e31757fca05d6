// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <optional>
#include <string>

namespace spillway::cuda {

/// What the driver's management library tells about a GPU's memory. Needs no context, and makes none.
class DriverMemory {
 public:
  /// \param uuid  as in CudaGpu
  explicit DriverMemory(std::string uuid);

  /// Bytes taken since this object was made, by whomever, context and libraries included. None if the library is not there, or does not
  /// know the GPU (a part of one, for instance).
  [[nodiscard]] std::optional<std::size_t> taken_bytes() const;

 private:
  [[nodiscard]] std::optional<std::size_t> used_bytes() const;

  std::string uuid_;
  int (*handle_by_uuid_)(const char*, void**) = nullptr;  // null, as the next: there is no library
  int (*memory_info_)(void*, void*) = nullptr;
  std::optional<std::size_t> before_;
};

}  // namespace spillway::cuda
