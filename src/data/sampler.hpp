// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace spillway::data {

/// Where a run stands in its data. Kept in checkpoints: the next global batch follows from it alone.
struct Cursor {
  std::int64_t epoch = 0;
  std::int64_t position = 0;  ///< samples of this epoch already used

  friend bool operator==(const Cursor&, const Cursor&) = default;
};

/// Cuts each epoch's order into global batches. The order is a pure function of (samples, seed, epoch): ranks have no
/// part in it. The last batch of an epoch has what is left and never crosses into the next epoch.
class BatchSampler {
 public:
  struct GlobalBatch {
    std::vector<std::int64_t> samples;  ///< indices of examples in the order drawn, at least one
    Cursor next;                        ///< where the batch after this one begins
  };

  /// \param shuffle  false: file order in every epoch
  /// \throws ConfigError if samples or global_batch_size is below 1
  BatchSampler(std::int64_t samples, std::int64_t global_batch_size, std::uint64_t seed, bool shuffle);

  /// The global batch at `cursor`. Remembers the order of the last epoch asked for: one thread at a time.
  /// \throws DataError if the cursor lies outside of an epoch
  [[nodiscard]] GlobalBatch next(const Cursor& cursor) const;

  [[nodiscard]] std::int64_t steps_per_epoch() const noexcept {
    return (samples_ + global_batch_size_ - 1) / global_batch_size_;
  }

  /// Bytes of memory held, for the ledger: the order of one epoch.
  [[nodiscard]] std::size_t bytes() const noexcept { return order_.capacity() * sizeof(std::int64_t); }

 private:
  void draw_order(std::int64_t epoch) const;

  std::int64_t samples_;
  std::int64_t global_batch_size_;
  std::uint64_t seed_;
  bool shuffle_;
  mutable std::vector<std::int64_t> order_;
  mutable std::int64_t epoch_ = -1;
};

}  // namespace spillway::data
