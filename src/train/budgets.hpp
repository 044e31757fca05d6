// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "comm/communicator.hpp"
#include "plan/facts.hpp"
#include "train/job.hpp"

namespace spillway::train {

/// What this rank may take, of what was configured and what is free. job.facts are known. \throws ConfigError if a directory of the nvme tier is not there
[[nodiscard]] plan::Budgets budgets_of(const Job& job, const PlannedMachine& machine);

/// Every rank must come to the same placement: the least of what any of them has counts. Collective.
void agree_on_budgets(plan::Budgets& budgets, plan::JobFacts& facts, comm::Communicator& communicator);

}  // namespace spillway::train
