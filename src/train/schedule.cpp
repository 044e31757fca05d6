// SPDX-License-Identifier: Apache-2.0
#include "train/schedule.hpp"

#include <algorithm>
#include <cmath>

namespace spillway::train {

std::int64_t warmup_steps(const ScheduleOptions& options, std::int64_t total_steps) {
  if (options.warmup_steps > 0) return options.warmup_steps;
  return static_cast<std::int64_t>(std::ceil(options.warmup_ratio * static_cast<double>(total_steps)));
}

double schedule_multiplier(const ScheduleOptions& options, std::int64_t step, std::int64_t total_steps) {
  if (options.lr_scheduler_type == SchedulerType::constant) return 1.0;
  const std::int64_t warmup = warmup_steps(options, total_steps);
  const auto at = static_cast<double>(step);
  if (step < warmup) return at / static_cast<double>(std::max<std::int64_t>(1, warmup));
  if (options.lr_scheduler_type == SchedulerType::constant_with_warmup) return 1.0;
  const auto left = static_cast<double>(total_steps - step);
  return std::max(0.0, left / static_cast<double>(std::max<std::int64_t>(1, total_steps - warmup)));
}

}  // namespace spillway::train
