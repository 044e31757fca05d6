// SPDX-License-Identifier: Apache-2.0
#include "plan/fastest.hpp"

#include <utility>

namespace spillway::plan {
namespace {

std::optional<Prediction> predict(const Plan& plan, const JobFacts& job, const StepCosts& costs,
                                  const MachineProfile& profile) {
  const StateBytes state = state_bytes(plan.placement, plan.shape(), job, costs);
  if (!missing_rates(profile, costs, state).empty()) return std::nullopt;
  return simulate(plan.program, plan.first_kept_stage, costs, state, profile);
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
  for (Candidate& candidate : candidates(job, budgets)) {
    Plan plan = plan_of(job, std::move(candidate));
    const std::optional<Prediction> prediction = predict(plan, job, costs, *profile);
    if (!prediction || prediction->seconds >= to_beat) continue;
    to_beat = prediction->seconds;
    best = {std::move(plan), prediction};
  }
  return best;
}

}  // namespace spillway::plan
