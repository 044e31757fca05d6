// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

#include "train/trainer.hpp"

namespace spillway::train {

/// The run itself, when everything is known and allocated: reads the weights, takes the steps that are left, with their metrics,
/// evaluations and checkpoints, and writes the results. Collective.
/// \param engine       with any weights
/// \param resume_from  the checkpoint to go on from, whose state `state` is; none: from the model's source
/// \param state        with all that a checkpoint records but the loss scale
/// \throws AgreedFailure if training diverged, or a rank could not read or write
Outcome run_training(const TrainRequest& request, Runtime& runtime, const Job& job, Engine& engine,
                     const StopRequest& stop, std::optional<std::string> resume_from, RunState state);

}  // namespace spillway::train
