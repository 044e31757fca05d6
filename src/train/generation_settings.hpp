// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "model/beam_search.hpp"
#include "train/model_source.hpp"
#include "train/run_options.hpp"

namespace spillway::train {

/// Fills keys of [eval] that are absent, and data.source_prefix where it is, from the entry eval.task of the model's
/// task_specific_params. Without a task nothing changes.
/// \throws ConfigError with the nearest name if the model has no such task; DataError for an entry of another type
void apply_task(RunOptions& options, const ModelSource& source);

/// The entries of the model's generation_config.json that would give other text if generation here followed them.
/// \throws DataError if it is no object
[[nodiscard]] std::vector<std::string> entries_left_out(const ModelSource& source);

/// How to generate: the configuration's keys, then the model's generation_config.json, then EvalOptions' constants. Warns of
/// entries_left_out. max_new_tokens there is max_length - 1, and goes before it.
/// \throws ConfigError for settings that no search can follow, naming the key; DataError for a generation_config.json
/// that is no object, or has a number that is too large
[[nodiscard]] model::GenerationOptions generation_options(const EvalOptions& eval, const ModelSource& source);

}  // namespace spillway::train
