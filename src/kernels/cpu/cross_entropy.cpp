// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/cross_entropy.hpp"

#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "core/error.hpp"
#include "kernels/cpu/instruction_set.hpp"
#include "kernels/cpu/lanes.hpp"
#include "kernels/cpu/math.hpp"
#include "kernels/cpu/rows.hpp"

namespace spillway::kernels::cpu {
namespace {

constexpr std::int64_t kSumBlock = 1024;  // summed in fp32; the blocks are summed in fp64

[[gnu::always_inline]] inline void store_one(float* to, float value) { *to = value; }
[[gnu::always_inline]] inline void store_one(BFloat16* to, float value) { *to = BFloat16{bf16_from_float(value)}; }

[[gnu::always_inline]] inline float row_maximum(const float* logits, std::int64_t count) {
  Lanes maximum = all_lanes(-std::numeric_limits<float>::infinity());
  const std::int64_t whole = count / kLanes * kLanes;
  for (std::int64_t c = 0; c < whole; c += kLanes) {
    const Lanes x = load(logits + c);
    maximum = where_less(maximum, x, x, maximum);
  }
  float result = largest(maximum);
  for (std::int64_t c = whole; c < count; ++c) result = std::max(result, logits[c]);
  return result;
}

struct RowSums {
  double exponentials = 0.0;  // Σ e^(x - maximum)
  double differences = 0.0;   // Σ (x - maximum)
};

/// Replaces the logits by e^(x - maximum) if `keep`.
[[gnu::always_inline]] inline RowSums exponentiate(float* logits, std::int64_t count, float maximum, bool keep) {
  RowSums sums;
  for (std::int64_t block = 0; block < count; block += kSumBlock) {
    const std::int64_t block_end = std::min(count, block + kSumBlock);
    Lanes exponentials{}, differences{};
    std::int64_t c = block;
    for (; c + kLanes <= block_end; c += kLanes) {
      const Lanes difference = load(logits + c) - maximum;
      const Lanes e = exp(difference);
      differences = differences + difference;
      exponentials = exponentials + e;
      if (keep) store(logits + c, e, kLanes);
    }
    double rest = 0.0, rest_differences = 0.0;
    if (c < block_end) {
      const std::int64_t left = block_end - c;
      const Lanes difference = load(logits + c, left) - maximum;
      const Lanes e = exp(difference);
      for (std::int64_t i = 0; i < left; ++i) {  // the lanes after the last logit count for nothing
        rest += static_cast<double>(e[i]);
        rest_differences += static_cast<double>(difference[i]);
      }
      if (keep) store(logits + c, e, left);
    }
    sums.exponentials += static_cast<double>(sum(exponentials)) + rest;
    sums.differences += static_cast<double>(sum(differences)) + rest_differences;
  }
  return sums;
}

/// \param exponentials  e^(x - maximum) of each logit
template <typename T>
[[gnu::always_inline]] inline void write_gradient(const CrossEntropy& op, const float* exponentials, double sum,
                                                  std::int64_t label, T* gradient) {
  const std::int64_t vocabulary = op.logits.extent(1);
  const auto scale = static_cast<double>(op.gradient_scale), smoothing = static_cast<double>(op.label_smoothing);
  const auto probability_scale = static_cast<float>(scale / sum);
  const auto smoothed = static_cast<float>(scale * smoothing / static_cast<double>(vocabulary));
  // All arithmetic is in fp32, so that an element is rounded once: the label's is computed before it may be overwritten.
  const float of_label = exponentials[label] * probability_scale - smoothed;
  for (std::int64_t c = 0; c < vocabulary; c += kLanes)
    store(gradient + c, load(exponentials + c, vocabulary - c) * probability_scale - smoothed, vocabulary - c);
  store_one(gradient + label, of_label - static_cast<float>(scale * (1.0 - smoothing)));
}

[[gnu::always_inline]] inline void losses_of_rows(const CrossEntropy& op, std::int64_t begin, std::int64_t end) {
  const std::int64_t vocabulary = op.logits.extent(1);
  const auto smoothing = static_cast<double>(op.label_smoothing);
  const bool gradient = op.gradient_scale != 0.0F;
  for (std::int64_t row = begin; row < end; ++row) {
    float* logits = floats(op.logits) + row * vocabulary;
    const std::int64_t label = integers(op.labels)[row];
    const float maximum = row_maximum(logits, vocabulary);
    const double label_difference = static_cast<double>(logits[label] - maximum);
    const RowSums sums = exponentiate(logits, vocabulary, maximum, gradient);
    // -log p[v] = log Σ e^(x - maximum) - (x[v] - maximum)
    floats(op.losses)[row] = static_cast<float>(std::log(sums.exponentials) - (1.0 - smoothing) * label_difference -
                                                smoothing / static_cast<double>(vocabulary) * sums.differences);
    if (!gradient) continue;
    if (!op.gradient) {
      write_gradient(op, logits, sums.exponentials, label, logits);
    } else if (op.gradient.dtype() == DType::f32) {
      write_gradient(op, logits, sums.exponentials, label, elements<float>(op.gradient) + row * vocabulary);
    } else {
      write_gradient(op, logits, sums.exponentials, label, elements<BFloat16>(op.gradient) + row * vocabulary);
    }
  }
}

}  // namespace

void cross_entropy(ThreadPool& pool, const CrossEntropy& op) {
  const std::int64_t vocabulary = op.logits.extent(1);
  std::int64_t row = 0;
  for (const std::int32_t label : op.labels.as<std::int32_t>()) {
    if (label < 0 || label >= vocabulary)
      throw Error(fmt::format("label {} of row {} is not in the vocabulary of {}", label, row, vocabulary));
    ++row;
  }
  parallel_rows(pool, op.logits.extent(0), vocabulary,
                [&](std::int64_t begin, std::int64_t end) { vectorised<losses_of_rows>(op, begin, end); });
}

}  // namespace spillway::kernels::cpu
