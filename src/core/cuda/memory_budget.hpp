// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>

namespace spillway::cuda {

/// Counts the device memory in use and refuses what would exceed its budget. Safe from any thread.
class MemoryBudget : public std::enable_shared_from_this<MemoryBudget> {
 public:
  explicit MemoryBudget(std::size_t bytes) : budget_(bytes) {}
  /// Takes `bytes` for as long as the share lives, which may be longer than the device.
  /// \throws Error (exit 5) with what was asked, used and allowed
  [[nodiscard]] std::shared_ptr<void> take(std::size_t bytes);
  [[nodiscard]] std::size_t used() const;
  [[nodiscard]] std::size_t limit() const noexcept { return budget_; }

 private:
  mutable std::mutex mutex_;
  std::size_t budget_;
  std::size_t used_ = 0;
};

}  // namespace spillway::cuda
