// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "train/evaluation.hpp"
#include "train/run_state.hpp"

namespace spillway::train {

/// checkpoint.load_best_model_at_end needs evaluations, and a checkpoint only where there is one (Hugging Face's rule).
/// \throws ConfigError naming the two keys
void check_best_model_options(const RunOptions& options);

/// Makes `state.step` the best one if its evaluation beats what was best: the highest BLEU or rougeL, and without generated text
/// the lowest loss. To be called for steps that have a checkpoint. What another metric liked best is forgotten.
/// \return whether it is the best
bool note_evaluation(RunState& state, const Evaluation& evaluation);

}  // namespace spillway::train
