// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/distance_bias.hpp"

#include "kernels/cpu/rows.hpp"
#include "kernels/relative_position.hpp"

namespace spillway::kernels::cpu {

DistanceBias::DistanceBias(const RelativeBias& bias, std::int64_t first, std::int64_t last) : first_(first) {
  if (!bias.table) return;
  table_ = bias.table;
  heads_ = bias.table.extent(1);
  buckets_ = relative_bucket_table(
      first, last,
      {.count = bias.table.extent(0), .bidirectional = bias.bidirectional, .max_distance = bias.max_distance});
}

void DistanceBias::read(std::int64_t head, std::int64_t begin, std::span<float> values) const {
  visit_storage(table_.dtype(), [&]<typename T>(std::type_identity<T>) {
    const T* const column = elements<T>(table_) + head;
    const std::int32_t* bucket = buckets_.data() + (begin - first_);
    for (float& value : values) value = as_float(column[*bucket++ * heads_]);
  });
}

void DistanceBias::add_gradient(std::span<const float> d_values, std::int64_t begin, std::span<float> d_buckets) const {
  const std::int32_t* bucket = buckets_.data() + (begin - first_);
  for (const float d_value : d_values) d_buckets[static_cast<std::size_t>(*bucket++)] += d_value;
}

}  // namespace spillway::kernels::cpu
