// SPDX-License-Identifier: Apache-2.0
#include "train/best_model.hpp"

#include <fmt/format.h>

#include "checkpoint/directory.hpp"
#include "core/error.hpp"
#include "core/log.hpp"
#include "train/agreement.hpp"

namespace spillway::train {
namespace {

std::string text_of(const StepInterval& interval) {
  return interval.every_epoch ? "\"epoch\"" : fmt::format("{}", interval.steps);
}

}  // namespace

void check_best_model_options(const RunOptions& options) {
  if (!options.checkpoint.load_best_model_at_end) return;
  const StepInterval& save = options.checkpoint.save_steps;
  const StepInterval& eval = options.eval.eval_steps;
  if (options.data.val.empty())
    throw ConfigError("checkpoint.load_best_model_at_end = true needs data.val: without it nothing is evaluated");
  const bool together = save.every_epoch || eval.every_epoch
                            ? save.every_epoch && eval.every_epoch
                            : save.steps > 0 && eval.steps > 0 && save.steps % eval.steps == 0;
  if (!together)
    throw ConfigError(
        fmt::format("checkpoint.load_best_model_at_end = true: expected checkpoint.save_steps to be a multiple of "
                    "eval.eval_steps and both above 0, or both \"epoch\"; found {} and {}",
                    text_of(save), text_of(eval)));
}

bool note_evaluation(RunState& state, const Evaluation& evaluation) {
  if (evaluation.bleu) return take_if_best(state, "bleu", evaluation.bleu->score, true);
  if (evaluation.rouge) return take_if_best(state, "rougeL", evaluation.rouge->rouge_l, true);
  return take_if_best(state, "loss", evaluation.loss, false);
}

std::string best_checkpoint(const RunState& state, const std::string& directory, comm::Communicator& communicator) {
  if (state.best_step < 0) {
    log::warning("no step had both a checkpoint and an evaluation: the model is that of the last step");
    return {};
  }
  const std::string folder = text_of_rank_0(communicator, [&] {
    for (const checkpoint::CheckpointEntry& entry : checkpoint::list(directory))
      if (entry.step == state.best_step) return entry.path;
    return std::string();
  });
  if (folder.empty())
    log::warning(fmt::format("the best checkpoint, that of step {}, is not in {}: the model is that of the last step",
                             state.best_step, directory));
  return folder;
}

}  // namespace spillway::train
