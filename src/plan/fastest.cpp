// SPDX-License-Identifier: Apache-2.0
#include "plan/fastest.hpp"

#include <utility>

namespace spillway::plan {
namespace {

std::optional<Prediction> predict(const Plan& plan, const JobFacts& job, const StepCosts& costs,
                                  const MachineProfile& profile) {
  const StateBytes state = state_bytes(plan.placement, job);
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
  std::optional<Shape> shape;  // of the best
  const auto consider = [&](Candidate candidate) {
    if (!candidate.shortage.empty()) return false;
    const Shape of_candidate = candidate.shape;
    Plan plan = plan_of(job, std::move(candidate));
    const std::optional<Prediction> prediction = predict(plan, job, costs, *profile);
    if (!prediction || prediction->seconds >= to_beat) return false;
    to_beat = prediction->seconds;
    best = {std::move(plan), prediction};
    shape = of_candidate;
    return true;
  };
  for (Candidate& candidate : candidates(job, budgets)) (void)consider(std::move(candidate));
  const CpuShare usual = usual_cpu_share(job);
  CpuShare best_share = usual;
  const Shape of_best = shape.value_or(Shape{best.plan.program.group_size, best.plan.first_kept_stage});
  for (const CpuShare& share : cpu_shares(job))
    if (!(share == usual) && consider(place(job, budgets, of_best, share))) best_share = share;
  if (best_share == usual) return best;
  for (const Shape& other : shapes(job)) (void)consider(place(job, budgets, other, best_share));
  return best;
}

}  // namespace spillway::plan
