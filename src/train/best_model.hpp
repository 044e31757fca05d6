// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "comm/communicator.hpp"
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

/// The folder of the checkpoint of `state.best_step` in `directory`, as rank 0 finds it, on every rank; empty if there is none, of
/// which the log warns. Collective.
[[nodiscard]] std::string best_checkpoint(const RunState& state, const std::string& directory,
                                          comm::Communicator& communicator);

}  // namespace spillway::train
