// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "model/beam_search.hpp"
#include "train/model_source.hpp"
#include "train/run_options.hpp"

namespace spillway::train {

/// Fills keys of [eval] that are absent, and data.source_prefix where it is, from the entry eval.task of the model's
/// task_specific_params. Without a task nothing changes.
/// \throws ConfigError with the nearest name if the model has no such task; DataError for an entry of another type
void apply_task(RunOptions& options, const ModelSource& source);

/// How to generate: the configuration's keys, then the model's generation_config.json, then EvalOptions' constants.
/// \throws ConfigError for settings that no search can follow, naming the key; DataError for a generation_config.json
/// that is no object
[[nodiscard]] model::GenerationOptions generation_options(const EvalOptions& eval, const ModelSource& source);

}  // namespace spillway::train
