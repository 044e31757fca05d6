// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>

#include "train/run_options.hpp"
#include "train/trainee.hpp"

namespace spillway::test {

/// Where a run with these options saves that step.
[[nodiscard]] std::string checkpoint_of(const train::RunOptions& options, int step);

/// Hashes of every tensor's bits in a checkpoint: the writer's ranks and padding play no part.
[[nodiscard]] StateHashes hashes_of(const std::string& checkpoint);

/// The loss of each step in the run's metrics.jsonl.
[[nodiscard]] std::map<int, double> losses_of(const train::RunOptions& options);

/// Likewise that of each evaluation.
[[nodiscard]] std::map<int, double> evaluation_losses_of(const train::RunOptions& options);

}  // namespace spillway::test
