// SPDX-License-Identifier: Apache-2.0
#include "core/cuda/memory_budget.hpp"

#include <fmt/format.h>

#include "core/error.hpp"

namespace spillway::cuda {

std::shared_ptr<void> MemoryBudget::take(std::size_t bytes) {
  {
    const std::scoped_lock lock(mutex_);
    if (bytes > budget_ - used_)
      throw Error(fmt::format("device memory: {} bytes asked, {} used, the budget is {}", bytes, used_, budget_),
                  ExitCode::failure);
    used_ += bytes;
  }
  // A share points at nothing: its deleter is the point.
  return {nullptr, [self = shared_from_this(), bytes](std::nullptr_t) {
            const std::scoped_lock lock(self->mutex_);
            self->used_ -= bytes;
          }};
}

std::size_t MemoryBudget::used() const {
  const std::scoped_lock lock(mutex_);
  return used_;
}

}  // namespace spillway::cuda
