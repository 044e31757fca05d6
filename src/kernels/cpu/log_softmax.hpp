// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <limits>
#include <span>

#include "kernels/cpu/lanes.hpp"
#include "kernels/cpu/thread_pool.hpp"
#include "kernels/generation_ops.hpp"

namespace spillway::kernels::cpu {

inline constexpr float kNoScore = -std::numeric_limits<float>::infinity();
/// Elements of a row of scores that are looked at, and summed in fp32, at a time.
inline constexpr std::int64_t kScoreBlock = 1024;

/// Calls visit(i, the elements from i on) for each sixteen elements of [begin, end); what is missing at the end is
/// -infinity.
template <typename Visit>
[[gnu::always_inline]] inline void each_lanes(const float* values, std::int64_t begin, std::int64_t end,
                                              const Visit& visit) {
  std::int64_t i = begin;
  for (; i + kLanes <= end; i += kLanes) visit(i, load(values + i));
  if (i < end) visit(i, load_part(values + i, end - i, kNoScore));
}

/// log_softmax(x) = (x - peak) - log_sum, in fp32 as PyTorch has it. As it is by default it leaves x alone.
struct Normaliser {
  float peak = 0.0F;     // the largest x
  float log_sum = 0.0F;  // log Σ exp(x - peak)
};

/// \param row  for messages
/// \throws DataError naming the row if its logits hold a NaN or an infinity that leaves no distribution
[[nodiscard]] Normaliser normaliser_of(std::span<const float> logits, std::int64_t row);

/// The op of the same name. Shapes are the caller's care. \throws DataError as normaliser_of() does
void log_softmax(ThreadPool& pool, const LogSoftmax& op);

}  // namespace spillway::kernels::cpu
