// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "train/run_options.hpp"

namespace spillway::train {

/// Warm-up steps of a run of `total_steps`: warmup_steps if set, else the ratio of the total, rounded up (Hugging Face's rule).
[[nodiscard]] std::int64_t warmup_steps(const ScheduleOptions& options, std::int64_t total_steps);

/// What the learning rate is multiplied with at a step (transformers' optimization.py).
/// \param step  optimizer steps done before this one, from 0
[[nodiscard]] double schedule_multiplier(const ScheduleOptions& options, std::int64_t step, std::int64_t total_steps);

}  // namespace spillway::train
