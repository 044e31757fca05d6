// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "plan/plan.hpp"
#include "train/job.hpp"

namespace spillway::test {

/// State that the plan spreads over tiers, extent by extent, because the budgets allow no better.
enum class Spread {
  none,              // every kind is where it was asked for
  device_host,       // moments, some unit's on both
  host_nvme,         // likewise
  device_host_nvme,  // likewise, one unit's on all three
  masters            // some unit's masters on device and host; all moments further away
};

/// Gives the job the plan of a shape under budgets that leave its state no better place; whatever tiers it asked for.
void spread_state(train::Job& job, Spread spread, const plan::Shape& shape);

}  // namespace spillway::test
