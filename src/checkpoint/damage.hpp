// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include "core/error.hpp"

namespace spillway::checkpoint {

/// A checkpoint that is not what was written: a file of it is missing or has another length or other bytes. An earlier
/// one may be whole.
class Damage : public DataError {
 public:
  using DataError::DataError;
};

/// A block of a bulk dataset whose hash differs.
class DamagedBlock : public Damage {
 public:
  DamagedBlock(const std::string& message, std::size_t block) : Damage(message), block_(block) {}
  /// Its number in the dataset, in units of kHashBlock.
  [[nodiscard]] std::size_t block() const noexcept { return block_; }

 private:
  std::size_t block_;
};

}  // namespace spillway::checkpoint
