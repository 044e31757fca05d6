// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/model_ops.hpp"

namespace spillway::kernels::cuda {

/// Where neighbouring buckets of one side begin: the smallest distance that is in one of them or a later one. The device finds buckets
/// from them and not by the formula, whose logarithm it might round to another side of a whole number. They travel with a launch.
struct BucketStarts {
  static constexpr std::int32_t kMost = 64;

  std::int32_t first = 0;  // bucket
  std::int32_t count = 0;
  std::int32_t one_side = 0;   // buckets
  bool bidirectional = false;  // keys after the query have buckets one_side on
  std::int32_t reach[kMost] = {};
};

/// Those of up to kMost buckets from `first` on. What was asked last on a thread is not computed again.
[[nodiscard]] BucketStarts bucket_starts(const Attention& op, std::int64_t first);

/// Those of all buckets of a side; none where there is no bias or kMost are not all.
[[nodiscard]] BucketStarts bucket_starts(const Attention& op);

}  // namespace spillway::kernels::cuda
