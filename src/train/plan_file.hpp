// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "train/job.hpp"

namespace spillway::train {

/// plan.json: the ledger by tier, kind and phase, bytes moved per step, and the step program's shape.
[[nodiscard]] std::string plan_json(const Job& job);

/// A few lines for the log: model, ranks, batch, memory by tier, numeric signature.
[[nodiscard]] std::string plan_summary(const Job& job);

}  // namespace spillway::train
