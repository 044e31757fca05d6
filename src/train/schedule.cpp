// SPDX-License-Identifier: Apache-2.0
#include "train/schedule.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include <fmt/format.h>

#include "core/error.hpp"

namespace spillway::train {
namespace {

constexpr double kTimescaleWithoutWarmup = 10000.0;  // steps

/// What the learning rate is multiplied with once the warm-up is over.
double multiplier(SchedulerType type, double learning_rate, std::int64_t step, std::int64_t warmup,
                  std::int64_t total_steps) {
  const auto after_warmup = static_cast<double>(step - warmup);
  const auto decay_steps = static_cast<double>(std::max<std::int64_t>(1, total_steps - warmup));
  const double done = after_warmup / decay_steps;
  switch (type) {
    case SchedulerType::constant:
    case SchedulerType::constant_with_warmup: return 1.0;
    case SchedulerType::linear: return std::max(0.0, static_cast<double>(total_steps - step) / decay_steps);
    case SchedulerType::cosine_with_restarts:
      if (done >= 1.0) return 0.0;  // the next cycle would begin
      [[fallthrough]];
    case SchedulerType::cosine: return std::max(0.0, 0.5 * (1.0 + std::cos(std::numbers::pi * done)));
    case SchedulerType::polynomial:
      if (step >= total_steps) return kPolynomialEnd / learning_rate;
      return ((learning_rate - kPolynomialEnd) * (1.0 - done) + kPolynomialEnd) / learning_rate;
    case SchedulerType::inverse_sqrt: {
      const double timescale = warmup > 0 ? static_cast<double>(warmup) : kTimescaleWithoutWarmup;
      return 1.0 / std::sqrt((after_warmup + timescale) / timescale);
    }
  }
  throw Error("a schedule that is none");
}

}  // namespace

std::int64_t warmup_steps(const ScheduleOptions& options, std::int64_t total_steps) {
  if (options.warmup_steps > 0) return options.warmup_steps;
  return static_cast<std::int64_t>(std::ceil(options.warmup_ratio * static_cast<double>(total_steps)));
}

double learning_rate_at(const ScheduleOptions& options, double learning_rate, std::int64_t step,
                        std::int64_t total_steps) {
  const std::int64_t warmup = warmup_steps(options, total_steps);
  if (options.lr_scheduler_type != SchedulerType::constant && step < warmup)
    return learning_rate * (static_cast<double>(step) / static_cast<double>(warmup));
  return learning_rate * multiplier(options.lr_scheduler_type, learning_rate, step, warmup, total_steps);
}

void check_schedule(const ScheduleOptions& options, double learning_rate) {
  if (options.lr_scheduler_type == SchedulerType::polynomial && learning_rate <= kPolynomialEnd)
    throw ConfigError(fmt::format("optimizer.learning_rate = {}: a polynomial schedule ends at {}, so it needs more",
                                  learning_rate, kPolynomialEnd));
}

}  // namespace spillway::train
