// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/distance_bias.hpp"

#include "kernels/relative_position.hpp"

namespace spillway::kernels::cpu {

DistanceBias::DistanceBias(const RelativeBias& bias, std::int64_t first, std::int64_t last) : first_(first) {
  if (!bias.table) return;
  table_ = bias.table.as<float>();
  heads_ = bias.table.extent(1);
  buckets_ = relative_bucket_table(
      first, last,
      {.count = bias.table.extent(0), .bidirectional = bias.bidirectional, .max_distance = bias.max_distance});
}

void DistanceBias::read(std::int64_t head, std::int64_t begin, std::span<float> values) const {
  const std::int32_t* bucket = buckets_.data() + (begin - first_);
  for (float& value : values) value = table_[static_cast<std::size_t>(*bucket++ * heads_ + head)];
}

void DistanceBias::add_gradient(std::span<const float> d_values, std::int64_t begin, std::span<float> d_buckets) const {
  const std::int32_t* bucket = buckets_.data() + (begin - first_);
  for (const float d_value : d_values) d_buckets[static_cast<std::size_t>(*bucket++)] += d_value;
}

}  // namespace spillway::kernels::cpu
