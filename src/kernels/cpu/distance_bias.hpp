// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/model_ops.hpp"

namespace spillway::kernels::cpu {

/// The relative bias of one op by distance = key position - query position: buckets are looked up once per op, a head's
/// values once per task, so that a row of scores adds a contiguous range.
class DistanceBias {
 public:
  /// For distances first to last. No memory if `bias` has no table.
  DistanceBias(const RelativeBias& bias, std::int64_t first, std::int64_t last);

  explicit operator bool() const noexcept { return !buckets_.empty(); }
  /// values[i] = bias of `head` at distance begin + i.
  void read(std::int64_t head, std::int64_t begin, std::span<float> values) const;
  /// d_buckets[bucket(begin + i)] += d_values[i], in ascending i.
  void add_gradient(std::span<const float> d_values, std::int64_t begin, std::span<float> d_buckets) const;

 private:
  ConstTensorView table_;
  std::int64_t heads_ = 0;
  std::int64_t first_ = 0;
  std::vector<std::int32_t> buckets_;
};

}  // namespace spillway::kernels::cpu
