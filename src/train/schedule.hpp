// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "train/run_options.hpp"

namespace spillway::train {

/// Warm-up steps of a run of `total_steps`: warmup_steps if set, else the ratio of the total, rounded up (Hugging Face's rule).
[[nodiscard]] std::int64_t warmup_steps(const ScheduleOptions& options, std::int64_t total_steps);

/// The learning rate of a step: `learning_rate`, scheduled as transformers' optimization.py does with its defaults. Let
/// p be the part of the steps after the warm-up that is done, in which the rate rises from 0 in a line:
/// linear 1 - p; cosine (1 + cos πp) / 2; cosine_with_restarts the same, as it has one cycle; polynomial a line of power
/// 1 down to kPolynomialEnd; inverse_sqrt 1 / sqrt(1 + (step - warm-up) / t), with t the warm-up, or 10000 without one.
/// \param step  optimizer steps done before this one, from 0
[[nodiscard]] double learning_rate_at(const ScheduleOptions& options, double learning_rate, std::int64_t step,
                                      std::int64_t total_steps);

/// Where a polynomial schedule ends.
constexpr double kPolynomialEnd = 1e-7;

/// \throws ConfigError if the schedule cannot begin at `learning_rate`
void check_schedule(const ScheduleOptions& options, double learning_rate);

}  // namespace spillway::train
