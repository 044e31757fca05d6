// SPDX-License-Identifier: Apache-2.0
#include <filesystem>
#include <iostream>
#include <optional>

#include <fmt/format.h>

#include "app/commands.hpp"
#include "app/config_record.hpp"
#include "app/device_choice.hpp"
#include "app/overrides.hpp"
#include "app/shared_config.hpp"
#include "core/log.hpp"
#include "core/text_file.hpp"
#include "train/agreement.hpp"
#include "train/checkpoints.hpp"
#include "train/evaluation.hpp"
#include "train/metrics.hpp"
#include "train/weights.hpp"

namespace spillway::app {
namespace {

using train::agree;

/// Which checkpoint to evaluate: the one named, or the run's newest unless a model is named.
std::optional<std::string> checkpoint_of(const EvaluateArguments& arguments, const train::RunOptions& options) {
  if (!arguments.model.empty()) return std::nullopt;
  train::CheckpointOptions asked = options.checkpoint;
  asked.resume = arguments.checkpoint.empty() ? "auto" : arguments.checkpoint;
  return train::find_checkpoint(asked, options.checkpoint_dir());
}

}  // namespace

ExitCode evaluate_command(const EvaluateArguments& arguments, Runtime& runtime) {
  train::RunOptions options = read_shared_run_options(
      runtime.communicator,
      {.file = arguments.config, .environment = process_environment(), .arguments = arguments.settings});
  comm::Communicator& communicator = runtime.communicator;
  std::optional<std::string> checkpoint;
  const std::string chosen =
      train::text_of_rank_0(communicator, [&] { return checkpoint_of(arguments, options).value_or(""); });
  if (!chosen.empty()) checkpoint = chosen;
  if (!arguments.model.empty()) {
    options.model.path = arguments.model;
    options.model.init = train::ModelInit::pretrained;
  }
  const bool val = arguments.split == Split::val;
  const std::vector<std::string>& paths = val ? options.data.val : options.data.test;
  if (paths.empty())
    throw train::AgreedFailure(fmt::format("data.{} is not set: there is nothing to evaluate", val ? "val" : "test"),
                               ExitCode::config);

  const std::unique_ptr<Device> gpu = open_gpu(options, runtime);
  train::Runtime lent = lend(runtime, gpu.get());
  const auto job = train::prepare_job(options, train::Purpose::evaluate, lent, {}, paths);
  const auto made = train::make_engine(*job, lent);
  train::Engine& engine = *made;
  if (checkpoint) {
    train::Checkpoints(engine, communicator).restore_weights(*checkpoint);
  } else {
    agree(communicator, [&] {
      train::load_weights(job->source, *job->layout, options.train.seed, options.model.embedding_std, job->zero,
                          engine.state());
    });
  }
  // Files in output_dir are about the run: only what it has come to is written there. The rest is for standard output.
  const bool own = checkpoint && arguments.checkpoint.empty();
  if (!own && arguments.model.empty() && arguments.checkpoint.empty())
    log::warning(fmt::format("there is no checkpoint to evaluate: these are the weights that training starts from{}",
                             options.model.init == train::ModelInit::random ? ", drawn at random" : ""));
  log::info(fmt::format("evaluating {} on {}", checkpoint ? *checkpoint : options.model.path, fmt::join(paths, ", ")));
  const train::Evaluation result = train::evaluate(engine, communicator);
  if (communicator.rank() == 0) std::cout << train::evaluation_json(result) << std::flush;
  agree(communicator, [&] {
    std::error_code unknown;
    if (communicator.rank() != 0 || !own || !std::filesystem::is_directory(options.train.output_dir, unknown)) return;
    // Hugging Face's names: those of validation begin with eval_, those of test data with predict_.
    train::write_all_results(options.train.output_dir + "/all_results.json", nullptr, &result,
                             val ? "eval" : "predict");
    if (result.generated)
      write_text(options.train.output_dir + (val ? "/generated_predictions.txt" : "/test_predictions.txt"),
                 train::predictions_text(result));
  });
  return ExitCode::done;
}

}  // namespace spillway::app
