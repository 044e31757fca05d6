// SPDX-License-Identifier: Apache-2.0
#include "plan/fastest.hpp"

#include <algorithm>
#include <utility>
#include <vector>

namespace spillway::plan {
namespace {

constexpr double kAboutAsFast = 1.02;

std::optional<Prediction> predict(const Plan& plan, const JobFacts& job, const StepCosts& costs,
                                  const MachineProfile& profile) {
  const StateBytes state = state_bytes(plan.placement, plan.shape(), job, costs);
  if (!missing_rates(profile, costs, state).empty()) return std::nullopt;
  return simulate(plan.program, plan.first_kept_stage, costs, state, profile);
}

/// Of the plans that are about as fast as the fastest, the one with the least outside the device: host memory and links have others who want
/// them, and what the plan does not know of slows transfers above all.
PredictedPlan nearest_of(std::vector<PredictedPlan> plans) {
  const auto seconds = [](const PredictedPlan& plan) { return plan.prediction->seconds; };
  const double slowest = kAboutAsFast * seconds(*std::ranges::min_element(plans, {}, seconds));
  std::erase_if(plans, [&](const PredictedPlan& plan) { return seconds(plan) > slowest; });
  const auto outside = [&](const PredictedPlan& plan) {
    const Ledger& ledger = plan.plan.ledger;
    return std::pair(ledger.peak(Tier::host) + ledger.peak(Tier::nvme), seconds(plan));
  };
  return std::move(*std::ranges::min_element(plans, {}, outside));
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
  std::vector<PredictedPlan> plans = {best};
  const JobFacts* facts = &job;  // of the best
  Shape best_shape = {best.plan.program.group_size, best.plan.first_kept_stage};
  const auto consider = [&](const JobFacts& of_candidate, Candidate candidate) {
    if (!candidate.shortage.empty()) return false;
    const Shape shape = candidate.shape;
    Plan plan = plan_of(of_candidate, std::move(candidate));
    const std::optional<Prediction> prediction = predict(plan, of_candidate, costs, *profile);
    if (prediction && prediction->seconds <= kAboutAsFast * best.prediction->seconds)
      plans.push_back({plan, prediction});
    if (!prediction || prediction->seconds >= to_beat) return false;
    to_beat = prediction->seconds;
    best = {std::move(plan), prediction};
    best_shape = shape;
    facts = &of_candidate;
    return true;
  };
  const std::optional<JobFacts> other = gradients_first(job, best.plan);
  for (Candidate& candidate : candidates(job, budgets)) (void)consider(job, std::move(candidate));
  if (other)
    for (Candidate& candidate : candidates(*other, budgets)) (void)consider(*other, std::move(candidate));
  const CpuShare usual = usual_cpu_share(job);
  CpuShare best_share = usual;
  const Shape with_usual = best_shape;
  for (const CpuShare& share : cpu_shares(job)) {
    if (share == usual) continue;
    bool better = consider(job, place(job, budgets, with_usual, share));
    if (other) better = consider(*other, place(*other, budgets, with_usual, share)) || better;
    if (better) best_share = share;
  }
  if (best_share == usual) return nearest_of(std::move(plans));
  const JobFacts& with_share = *facts;
  for (const Shape& shape : shapes(job)) (void)consider(with_share, place(with_share, budgets, shape, best_share));
  return nearest_of(std::move(plans));
}

}  // namespace spillway::plan
