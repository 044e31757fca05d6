// SPDX-License-Identifier: Apache-2.0
#include "train/interval_metrics.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "train/machine.hpp"

namespace spillway::train {

void IntervalMetrics::add(const CountedStep& step) {
  sum_.loss += step.loss;
  sum_.target_tokens += step.target_tokens;
  sum_.tokens += step.tokens;
  sum_.samples += step.samples;
  sum_.model_flops += step.model_flops;
  sum_.seconds += step.seconds;
  if (step.skipped) ++skipped_;
  ++steps_;
}

StepMetrics IntervalMetrics::take() {
  StepMetrics metrics;
  metrics.steps = steps_;
  metrics.loss = sum_.loss / static_cast<double>(sum_.target_tokens);
  metrics.skipped = skipped_;
  metrics.seconds_per_step = sum_.seconds / static_cast<double>(steps_);
  metrics.tokens_per_second = static_cast<double>(sum_.tokens) / sum_.seconds;
  metrics.samples_per_second = static_cast<double>(sum_.samples) / sum_.seconds;
  if (const double rate = job_.profile ? plan::product_rate(*job_.profile, job_.costs) : 0.0; job_.on_gpu && rate > 0.0)
    metrics.model_flops_utilization = sum_.model_flops / (sum_.seconds * rate * job_.map->ranks());
  metrics.device_bytes = job_.plan.ledger.total(plan::Tier::device, plan::Phase::step);
  metrics.host_bytes = job_.plan.ledger.total(plan::Tier::host, plan::Phase::step);
  const std::array<double, 1> peak = {static_cast<double>(peak_resident_bytes())};
  metrics.peak_host_bytes = static_cast<std::size_t>(std::ranges::max(comm::all_gather_doubles(communicator_, peak)));
  metrics.taken_device_bytes = engine_.device_bytes_taken();
  metrics.clock = engine_.clock();
  metrics.nvme = meter_.nvme();
  metrics.resources = meter_.take(metrics.clock, steps_);
  metrics.save_seconds = std::exchange(save_seconds_, 0.0);
  engine_.clock().reset();
  sum_ = {};
  steps_ = skipped_ = 0;
  return metrics;
}

}  // namespace spillway::train
