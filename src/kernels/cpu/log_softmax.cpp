// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/log_softmax.hpp"

#include <cmath>

#include <fmt/format.h>

#include "core/error.hpp"
#include "kernels/cpu/instruction_set.hpp"
#include "kernels/cpu/math.hpp"

namespace spillway::kernels::cpu {

Normaliser normaliser_of(std::span<const float> logits, std::int64_t row) {
  const auto size = static_cast<std::int64_t>(logits.size());
  const float* const values = logits.data();
  float peak = kNoScore;
  double total = 0.0;
  run_vectorised([&] [[gnu::always_inline]] {
    Lanes most = all_lanes(kNoScore);
    each_lanes(
        values, 0, size, [&](std::int64_t, const Lanes& x) __attribute__((always_inline)) { most = larger(x, most); });
    peak = largest(most);
    for (std::int64_t begin = 0; begin < size; begin += kScoreBlock) {
      Lanes block{};
      each_lanes(
          values, begin,
          std::min(begin + kScoreBlock, size), [&](std::int64_t, const Lanes& x) __attribute__((always_inline)) {
            block += exp(x - peak);
          });
      total += static_cast<double>(sum(block));
    }
  });
  if (!std::isfinite(total)) {
    throw DataError(fmt::format(
        "the logits of row {} of the generation step are no distribution: largest {}, sum of powers {}; the "
        "model's weights or activations hold NaN or infinity",
        row, peak, total));
  }
  return {.peak = peak, .log_sum = static_cast<float>(std::log(total))};
}

void log_softmax(ThreadPool& pool, const LogSoftmax& op) {
  const auto vocabulary = static_cast<std::size_t>(op.scores.extent(1));
  const std::span<float> scores = op.scores.as<float>();
  pool.parallel_for(op.rows, [&](std::int64_t row) {
    const std::span<float> its = scores.subspan(static_cast<std::size_t>(row) * vocabulary, vocabulary);
    const auto [peak, log_sum] = normaliser_of(its, row);
    for (float& x : its) x = (x - peak) - log_sum;
  });
}

}  // namespace spillway::kernels::cpu
