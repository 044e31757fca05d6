// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "plan/plan.hpp"
#include "train/job.hpp"
#include "train/planned_machine.hpp"

namespace spillway::train {

/// Parameters of an extent: [offload].extent_size of fp32, but no more than what this rank owns of the largest unit.
[[nodiscard]] std::int64_t extent_elements(const Job& job);

/// The job as sizes, for the plan. All but the plan is known of it.
[[nodiscard]] plan::JobFacts facts_of(const Job& job, const PlannedMachine& machine);

/// What this rank may take, of what was configured and what is free. job.facts are known. \throws ConfigError if a directory of the nvme tier is not there
[[nodiscard]] plan::Budgets budgets_of(const Job& job, const PlannedMachine& machine);

/// Every rank must come to the same placement: the least of what any of them has counts. Collective.
void agree_on_budgets(plan::Budgets& budgets, plan::JobFacts& facts, comm::Communicator& communicator);

}  // namespace spillway::train
