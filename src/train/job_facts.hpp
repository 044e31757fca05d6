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

}  // namespace spillway::train
