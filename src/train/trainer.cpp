// SPDX-License-Identifier: Apache-2.0
#include "train/trainer.hpp"

#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "core/log.hpp"
#include "offload/scratch_file.hpp"
#include "train/agreement.hpp"
#include "train/best_model.hpp"
#include "train/checkpoints.hpp"
#include "train/hugging_face.hpp"
#include "train/plan_file.hpp"
#include "train/plan_report.hpp"
#include "train/resume.hpp"
#include "train/shared_folder.hpp"
#include "train/training_run.hpp"

namespace spillway::train {
namespace {

namespace fs = std::filesystem;

/// A folder that cannot be written to is found out now, not at the first save.
void make_writable(const char* key, const std::string& directory) {
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) throw ConfigError(fmt::format("{} = \"{}\": {}", key, directory, error.message()));
  const std::string probe = directory + "/.writable";
  std::ofstream file(probe);
  if (!file) throw ConfigError(fmt::format("{} = \"{}\" is not writable", key, directory));
  file.close();
  fs::remove(probe, error);
}

/// Before the plan asks how much room the disks have.
void remove_abandoned_state(const OffloadOptions& offload) {
  for (const std::string& directory : nvme_directories(offload))
    for (const std::string& folder : offload::remove_abandoned_folders(directory, kScratchPrefix))
      log::info(fmt::format("removed {}, which a run that was killed had left", folder));
}

/// Goes on from a checkpoint, or begins. \throws DamagedCheckpoint before anything of this run is on a disk
Outcome train_from(const std::optional<ResumePoint>& resumed, const TrainRequest& request, RunOptions options,
                   const StopRequest& stop, Runtime& runtime) {
  comm::Communicator& communicator = runtime.communicator;
  RunState state = resumed ? resumed->state : RunState();
  agree(communicator, [&] {
    if (!resumed) return;
    check_changes(state, request.config, options.checkpoint.allow_changes);
    if (options.train.global_batch_size == 0) options.train.global_batch_size = state.global_batch_size;
    if (options.train.global_batch_size != state.global_batch_size && !options.checkpoint.allow_changes)
      throw ConfigError(
          fmt::format("train.global_batch_size: the checkpoint has {}, the configuration {}; resuming keeps it",
                      state.global_batch_size, options.train.global_batch_size));
  });

  const auto job = prepare_job(options, Purpose::train, runtime, {}, options.data.val);
  const NumericSignature signature = numeric_signature(*job);
  if (communicator.rank() == 0) {
    log::info(plan_summary(*job));
    if (request.dry_run) request.print(job->plan.ledger.text());
    if (const std::string late = report_of(*job).late_signal; !late.empty()) log::warning(late);
  }
  if (request.dry_run) return Outcome::finished;
  ContentRecord contents;
  agree(communicator, [&] { contents = contents_of(*job); });
  compare_ranks(*job, contents, state.step, communicator);
  if (resumed) {
    agree(communicator, [&] { check_contents(state, contents, options.checkpoint.allow_changes); });
    if (const std::string changes = signature_changes(state.signature, signature); !changes.empty())
      log::info("the numeric signature changed: " + changes);
    if (state.step >= job->total_steps) {
      log::info(fmt::format("{} is at step {} of {}: there is nothing left to train", resumed->folder, state.step,
                            job->total_steps));
      const auto done = [&] { return std::string(has_results(options, state) ? "yes" : ""); };
      if (!text_of_rank_0(communicator, done).empty()) return Outcome::finished;
    }
  }
  state.total_steps = job->total_steps;
  state.global_batch_size = job->global_batch_size;
  state.config = request.config;
  state.signature = signature;
  state.contents = contents;
  state.model_json = model::export_config_json(job->source.config, job->source.dtype);
  state.model_dtype = job->source.dtype;
  state.generation_json = job->source.generation_json;
  state.tokenizer = job->source.tokenizer.empty() || job->source.tokenizer == "bytes"
                        ? job->source.tokenizer
                        : fs::absolute(job->source.tokenizer).string();
  const auto engine = make_engine(*job, runtime);
  return run_training(request, runtime, *job, *engine, stop, resumed ? std::optional(resumed->folder) : std::nullopt,
                      state);
}

}  // namespace

Outcome train(const TrainRequest& request, Runtime& runtime) {
  comm::Communicator& communicator = runtime.communicator;
  const RunOptions& options = request.options;
  SlurmJob slurm;
  agree(communicator, [&] { slurm = this_slurm_job(); });
  // From here on: reading a large model takes a while.
  const StopRequest stop({.time_limit = options.train.time_limit, .start = runtime.start, .slurm = slurm});

  const bool own_folder = !options.checkpoint.dir.empty();
  agree(communicator, [&] {
    check_best_model_options(options);
    if (options.report.trace && options.report.trace_last < options.report.trace_first)
      throw ConfigError(fmt::format("report.trace_last = {} is before report.trace_first = {}",
                                    options.report.trace_last, options.report.trace_first));
    if (request.dry_run) return;
    if (communicator.rank() == 0) {
      std::error_code ignored;
      fs::remove(options.train.output_dir + "/REQUEUE", ignored);  // what fails from here on must not ask for it
      make_writable("train.output_dir", options.train.output_dir);
      if (own_folder) make_writable("checkpoint.dir", options.checkpoint.dir);
      if (options.checkpoint.export_model) check_export_directory(options.train.output_dir + "/model");
    }
    remove_abandoned_state(options.offload);
  });
  if (!request.dry_run)
    check_shared_folder(own_folder ? "checkpoint.dir" : "train.output_dir",
                        own_folder ? options.checkpoint.dir : options.train.output_dir, communicator);
  std::vector<std::string> damaged;
  for (;;) {
    const std::optional<ResumePoint> resumed = find_resume_point(options, request.config, damaged, communicator);
    try {
      return train_from(resumed, request, options, stop, runtime);
    } catch (const DamagedCheckpoint& failure) {
      if (options.checkpoint.resume != "auto") throw;
      log::warning(fmt::format("{} cannot be resumed from: {}", resumed->folder, failure.what()));
      damaged.push_back(resumed->folder);
    }
  }
}

}  // namespace spillway::train
