// SPDX-License-Identifier: Apache-2.0
#include "plan/fastest.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

namespace spillway::plan {
namespace {

std::optional<Prediction> predict(const Plan& plan, const JobFacts& job, const StepCosts& costs,
                                  const MachineProfile& profile) {
  const StateBytes state = state_bytes(plan.placement, plan.shape(), job, costs);
  if (!missing_rates(profile, costs, state).empty()) return std::nullopt;
  return simulate(plan.program, plan.first_kept_stage, costs, state, profile);
}

/// The same job where gradients are the first to leave the device: they go down the link under the backward pass, so that less goes down
/// while the update brings everything up.
std::optional<JobFacts> gradients_first(const JobFacts& job, const Plan& plan) {
  const bool may_leave = job.kinds.size() > kGradientKind && job.kinds[kGradientKind].leaves > 0;
  if (!may_leave || plan.placement.bytes_outside(job) == 0) return std::nullopt;
  JobFacts other = job;
  other.kinds[kGradientKind].leaves = std::ranges::max(job.kinds, {}, &KindFacts::leaves).leaves + 1;
  return other;
}

}  // namespace

PredictedPlan fastest_plan(const JobFacts& job, const Budgets& budgets, const StepCosts& costs,
                           const MachineProfile* profile) {
  constexpr double kWorthIt = 0.99;
  PredictedPlan best{make_plan(job, budgets), std::nullopt};
  if (profile == nullptr) return best;
  best.prediction = predict(best.plan, job, costs, *profile);
  if (!best.prediction) return best;
  double to_beat = kWorthIt * best.prediction->seconds;
  std::vector<Candidate> all = candidates(job, budgets);
  if (const std::optional<JobFacts> other = gradients_first(job, best.plan))
    std::ranges::move(candidates(*other, budgets), std::back_inserter(all));
  for (Candidate& candidate : all) {
    Plan plan = plan_of(job, std::move(candidate));
    const std::optional<Prediction> prediction = predict(plan, job, costs, *profile);
    if (!prediction || prediction->seconds >= to_beat) continue;
    to_beat = prediction->seconds;
    best = {std::move(plan), prediction};
  }
  return best;
}

}  // namespace spillway::plan
