// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

namespace spillway::kernels {

/// How T5 sorts distances between tokens into buckets that share one learned bias per head.
struct RelativeBuckets {
  std::int64_t count = 32;    // rows of the bias table
  bool bidirectional = true;  // half of the buckets for keys after the query; otherwise those all count as distance 0
  std::int64_t max_distance = 128;  // from here on everything falls into the last bucket
};

/// The bucket of a key at `distance` = key position - query position. With n = count (count / 2 if bidirectional, plus
/// n for distance > 0), r = |distance| (max(-distance, 0) if not) and e = n / 2: r if r < e, otherwise min(n - 1, e +
/// int(log(r / e) / log(max_distance / e) * (n - e))), in fp32 and truncated as in Hugging Face's
/// T5Attention._relative_position_bucket.
/// \throws Error if the formula is not defined: e < 1 or max_distance <= e
[[nodiscard]] std::int64_t relative_bucket(std::int64_t distance, const RelativeBuckets& buckets);

/// The buckets of the distances first, first + 1, ..., last.
[[nodiscard]] std::vector<std::int32_t> relative_bucket_table(std::int64_t first, std::int64_t last,
                                                              const RelativeBuckets& buckets);

}  // namespace spillway::kernels
