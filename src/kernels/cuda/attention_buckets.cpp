// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/attention_buckets.hpp"

#include <algorithm>
#include <limits>

#include "kernels/relative_position.hpp"

namespace spillway::kernels::cuda {
namespace {

RelativeBuckets buckets_of(const Attention& op) {
  return {
      .count = op.bias.table.extent(0), .bidirectional = op.bias.bidirectional, .max_distance = op.bias.max_distance};
}

std::int64_t one_side(const RelativeBuckets& buckets) {
  return buckets.bidirectional ? buckets.count / 2 : buckets.count;
}

std::int32_t start_of(std::int64_t bucket, const RelativeBuckets& buckets) {
  // From max_distance on everything is in the last bucket, and sequences are not longer than a row number can tell.
  const std::int64_t longest = std::min<std::int64_t>(buckets.max_distance, std::numeric_limits<std::int32_t>::max());
  std::int64_t low = 0;
  std::int64_t high = longest;
  while (low < high) {
    const std::int64_t middle = (low + high) / 2;
    if (relative_bucket(-middle, buckets) >= bucket) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return static_cast<std::int32_t>(low);
}

bool same(const RelativeBuckets& a, const RelativeBuckets& b) {
  return a.count == b.count && a.bidirectional == b.bidirectional && a.max_distance == b.max_distance;
}

}  // namespace

BucketStarts bucket_starts(const Attention& op, std::int64_t first) {
  thread_local RelativeBuckets last{.count = 0};
  thread_local BucketStarts starts;
  const RelativeBuckets buckets = buckets_of(op);
  if (same(buckets, last) && starts.first == first) return starts;
  starts = {.first = static_cast<std::int32_t>(first),
            .count = static_cast<std::int32_t>(std::min<std::int64_t>(BucketStarts::kMost, one_side(buckets) - first)),
            .one_side = static_cast<std::int32_t>(one_side(buckets)),
            .bidirectional = buckets.bidirectional};
  for (std::int32_t i = 0; i < BucketStarts::kMost; ++i)
    starts.reach[i] = i < starts.count ? start_of(first + i, buckets) : std::numeric_limits<std::int32_t>::max();
  last = buckets;
  return starts;
}

BucketStarts bucket_starts(const Attention& op) {
  if (!op.bias.table || one_side(buckets_of(op)) > BucketStarts::kMost) return {};
  return bucket_starts(op, 0);
}

}  // namespace spillway::kernels::cuda
