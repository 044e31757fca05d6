// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <new>
#include <span>

#include "checkpoint/hash.hpp"
#include "checkpoint/layout.hpp"

namespace spillway::checkpoint {

/// Owning memory for bytes in transit, on a kAlignment boundary and a whole number of hash blocks.
class Staging {
 public:
  /// \param bytes  rounded down to a multiple of kHashBlock, at least one
  explicit Staging(std::size_t bytes)
      : blocks_(bytes < kHashBlock ? 1 : bytes / kHashBlock),
        memory_(static_cast<std::byte*>(::operator new (blocks_* kHashBlock, std::align_val_t{kAlignment}))) {}

  [[nodiscard]] std::size_t blocks() const noexcept { return blocks_; }
  [[nodiscard]] std::span<std::byte> bytes() const noexcept { return {memory_.get(), blocks_ * kHashBlock}; }
  [[nodiscard]] std::span<float> floats() const noexcept {
    return {reinterpret_cast<float*>(memory_.get()), blocks_ * kHashBlock / sizeof(float)};
  }

 private:
  struct Release {
    void operator()(std::byte* memory) const noexcept { ::operator delete (memory, std::align_val_t{kAlignment}); }
  };
  std::size_t blocks_;
  std::unique_ptr<std::byte, Release> memory_;
};

}  // namespace spillway::checkpoint
