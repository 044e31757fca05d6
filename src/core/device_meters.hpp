// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "core/device.hpp"

namespace spillway {

/// Bytes that crossed the link between a device's memory and the host's.
struct LinkBytes {
  std::uint64_t up = 0;    // to the device
  std::uint64_t down = 0;  // from it
};

/// Counts them. Safe from any thread.
class LinkCounter {
 public:
  void add(const LinkBytes& bytes) noexcept {
    up_.fetch_add(bytes.up, std::memory_order_relaxed);
    down_.fetch_add(bytes.down, std::memory_order_relaxed);
  }
  [[nodiscard]] LinkBytes bytes() const noexcept {
    return {.up = up_.load(std::memory_order_relaxed), .down = down_.load(std::memory_order_relaxed)};
  }

 private:
  std::atomic<std::uint64_t> up_ = 0, down_ = 0;
};

/// What a device with memory of its own says about itself, beside Device. The host is none: no link lies in front of its memory.
class DeviceMeters {
 public:
  virtual ~DeviceMeters() = default;
  /// Device::copy counts every copy here, when it is submitted. Kernels that reach into pinned host memory are not seen: whoever starts
  /// one adds what it reads and writes there.
  [[nodiscard]] virtual LinkCounter& link() noexcept = 0;
  /// Device memory taken since the device was made, as its driver tells: context and libraries included, and what other processes have
  /// taken meanwhile. None where the driver does not say.
  [[nodiscard]] virtual std::optional<std::size_t> taken_bytes() const = 0;
};

/// Those of a device; null if it has none.
[[nodiscard]] inline DeviceMeters* meters_of(Device& device) { return dynamic_cast<DeviceMeters*>(&device); }

}  // namespace spillway
