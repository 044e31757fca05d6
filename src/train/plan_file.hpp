// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

#include "train/job.hpp"

namespace spillway::train {

/// Operations of the model itself in the predicted step, of what products reach on the GPU; none without a prediction or a GPU.
[[nodiscard]] std::optional<double> predicted_utilization(const Job& job);

/// plan.json: the ledger by tier, kind and phase, bytes moved per step, the step program's shape, and the predicted step.
[[nodiscard]] std::string plan_json(const Job& job);

/// A few lines for the log: model, ranks, batch, memory by tier, numeric signature.
[[nodiscard]] std::string plan_summary(const Job& job);

}  // namespace spillway::train
