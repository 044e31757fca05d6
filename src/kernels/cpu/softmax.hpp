// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/cpu/lanes.hpp"
#include "kernels/cpu/math.hpp"

namespace spillway::kernels::cpu {

/// One row of attention scores in scratch memory. The memory of `scores` and `bias` goes on to a multiple of kLanes.
struct ScoreRow {
  float* scores = nullptr;
  const float* bias = nullptr;  // nullptr: none
  std::int64_t visible = 0;     // keys that the query sees, at least 1
  std::int64_t columns = 0;     // keys in the row; those from `visible` on get probability 0
};

/// scores[j] = exp(scores[j] + bias[j] - m) / Σ_j exp(scores[j] + bias[j] - m), m the largest; 0 from `visible` to
/// `columns` rounded up to lanes. Returns log Σ_j exp(scores[j] + bias[j]).
[[gnu::always_inline]] inline float softmax_row(const ScoreRow& row) {
  Lanes most = all_lanes(-std::numeric_limits<float>::infinity());
  for (std::int64_t j = 0; j < row.visible; j += kLanes) {
    Lanes score = load(row.scores + j);
    if (row.bias != nullptr) score += load(row.bias + j);
    score = keep_first(score, row.visible - j, -std::numeric_limits<float>::infinity());
    store(row.scores + j, score);
    most = larger(score, most);
  }
  const float peak = largest(most);
  Lanes sums{};
  for (std::int64_t j = 0; j < row.visible; j += kLanes) {
    // The select once more: where the largest is infinite or NaN, so would be the lanes past the end.
    const Lanes power = keep_first(exp(load(row.scores + j) - peak), row.visible - j, 0.0F);
    store(row.scores + j, power);
    sums += power;
  }
  const float total = sum(sums);
  const float inverse = 1.0F / total;
  std::int64_t j = 0;
  for (; j < row.visible; j += kLanes) store(row.scores + j, load(row.scores + j) * inverse);
  for (; j < row.columns; j += kLanes) store(row.scores + j, Lanes{});
  return peak + std::log(total);
}

}  // namespace spillway::kernels::cpu
