// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "plan/machine_profile.hpp"
#include "plan/plan.hpp"
#include "plan/simulation.hpp"

namespace spillway::plan {

/// A plan and what it takes on a machine.
struct PredictedPlan {
  Plan plan;
  std::optional<Prediction> prediction;  // none: the machine's rates are not known, or not all of them
};

/// Of all candidates, and those where gradients leave the device first, that with the shortest simulated step. One that is less than a hundredth faster than make_plan's is not worth a
/// different order of sums, so then, and without a profile that has the rates, it is make_plan's.
/// \param profile  null: not known
/// \throws PlanError as make_plan
[[nodiscard]] PredictedPlan fastest_plan(const JobFacts& job, const Budgets& budgets, const StepCosts& costs,
                                         const MachineProfile* profile);

}  // namespace spillway::plan
