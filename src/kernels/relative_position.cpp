// SPDX-License-Identifier: Apache-2.0
#include "kernels/relative_position.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include <fmt/format.h>

#include "core/error.hpp"

namespace spillway::kernels {

std::int64_t relative_bucket(std::int64_t distance, const RelativeBuckets& buckets) {
  const std::int64_t one_side = buckets.bidirectional ? buckets.count / 2 : buckets.count;
  const std::int64_t exact = one_side / 2;
  if (exact < 1 || buckets.max_distance <= exact) {
    throw Error(fmt::format(
        "relative position buckets: {} {} buckets up to distance {} are not defined: at least {} buckets and a "
        "distance above {} are needed",
        buckets.count, buckets.bidirectional ? "bidirectional" : "one-sided", buckets.max_distance,
        buckets.bidirectional ? 4 : 2, exact));
  }
  const std::int64_t base = buckets.bidirectional && distance > 0 ? one_side : 0;
  const std::int64_t reach = buckets.bidirectional ? std::abs(distance) : std::max<std::int64_t>(-distance, 0);
  if (reach < exact) return base + reach;
  // The divisor is rounded to fp32 only once, as PyTorch does with a Python number: buckets at powers of two depend on
  // it.
  const auto log_range =
      static_cast<float>(std::log(static_cast<double>(buckets.max_distance) / static_cast<double>(exact)));
  const float fraction = std::log(static_cast<float>(reach) / static_cast<float>(exact)) / log_range;
  const auto step = static_cast<std::int64_t>(fraction * static_cast<float>(one_side - exact));
  return base + std::min(exact + step, one_side - 1);
}

std::vector<std::int32_t> relative_bucket_table(std::int64_t first, std::int64_t last, const RelativeBuckets& buckets) {
  std::vector<std::int32_t> table;
  table.reserve(static_cast<std::size_t>(last - first + 1));
  for (std::int64_t distance = first; distance <= last; ++distance) {
    table.push_back(static_cast<std::int32_t>(relative_bucket(distance, buckets)));
  }
  return table;
}

}  // namespace spillway::kernels
