// SPDX-License-Identifier: Apache-2.0
#include "train/trainer.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <optional>

#include <fmt/format.h>

#include "checkpoint/root_lock.hpp"
#include "core/log.hpp"
#include "offload/scratch_file.hpp"
#include "train/agreement.hpp"
#include "train/best_model.hpp"
#include "train/checkpoints.hpp"
#include "train/evaluation.hpp"
#include "train/hugging_face.hpp"
#include "train/loss_scaler.hpp"
#include "train/machine.hpp"
#include "train/metrics.hpp"
#include "train/plan_file.hpp"
#include "train/progress.hpp"
#include "train/resume.hpp"
#include "train/run_outputs.hpp"
#include "train/schedule.hpp"
#include "train/trace_file.hpp"
#include "train/weights.hpp"

namespace spillway::train {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// One training run from its first step to its last.
class Run {
 public:
  Run(const TrainRequest& request, Runtime& runtime, const Job& job, Engine& engine, const StopRequest& stop,
      std::optional<std::string> resume_from, RunState state)
      : request_(request),
        options_(job.options),
        communicator_(runtime.communicator),
        job_(job),
        engine_(engine),
        checkpoints_(engine_, communicator_),
        state_(std::move(state)),
        sampler_(job.train_examples->size(), job.global_batch_size, options_.train.seed, options_.data.shuffle),
        stop_(stop),
        progress_(state_.step, job.total_steps, request.progress_bar && communicator_.rank() == 0) {
    if (job.dtype() == DType::f16) {
      scaler_.emplace(options_.loss_scale);
      if (state_.loss_scale) scaler_->restore(*state_.loss_scale);
      state_.loss_scale = scaler_->state();
    } else {
      state_.loss_scale.reset();
    }
    if (resume_from) {
      checkpoints_.restore(*resume_from);
      log::info(fmt::format("resumed from {} at step {}", *resume_from, state_.step));
    } else {
      agree(communicator_, [&] {
        load_weights(job.source, *job.layout, options_.train.seed, options_.model.embedding_std, job.zero,
                     engine_.state());
      });
    }
    agree(communicator_, [&] {
      if (!root()) return;
      lock_.emplace(job_.options.checkpoint_dir());
      unmark_results(options_);
      outputs_.emplace(job_, request_.config);
    });
  }

  Outcome execute() {
    last_saved_ = state_.step;
    while (state_.step < job_.total_steps) {
      step();
      // One step later, so that the last one's update overlaps what follows as always.
      if (engine_.trace() != nullptr && state_.step == engine_.trace()->last() + 1) write_trace_file();
      const bool last = state_.step == job_.total_steps;
      if (due(options_.train.logging_steps) || last) write_metrics();
      if (last) break;
      if (stop_seen_ == StopReason::none && due(options_.eval.eval_steps)) {
        evaluate_now();
        share_stop({});  // it may have taken long
      }
      if (stop_seen_ != StopReason::none) return stopped();
      if (due(options_.checkpoint.save_steps)) save();
    }
    return finished();
  }

 private:
  [[nodiscard]] bool root() const { return communicator_.rank() == 0; }
  [[nodiscard]] static bool due(const StepInterval& every, std::int64_t step, const data::Cursor& cursor) {
    if (every.every_epoch) return cursor.position == 0;
    return every.steps > 0 && step % every.steps == 0;
  }
  [[nodiscard]] bool due(const StepInterval& every) const { return due(every, state_.step, state_.cursor); }
  [[nodiscard]] double epoch() const {
    return static_cast<double>(state_.cursor.epoch) +
           static_cast<double>(state_.cursor.position) / static_cast<double>(job_.train_examples->size());
  }

  void step() {
    const auto start = Clock::now();
    data::BatchSampler::GlobalBatch batch = sampler_.next(state_.cursor);
    std::int64_t target_tokens = 0;
    std::int64_t tokens = 0;
    for (const std::int64_t sample : batch.samples) {
      target_tokens += static_cast<std::int64_t>(job_.train_examples->target(sample).size());
      tokens += static_cast<std::int64_t>(job_.train_examples->source(sample).size() +
                                          job_.train_examples->target(sample).size());
    }
    learning_rate_ =
        learning_rate_at(options_.schedule, options_.optimizer.learning_rate, state_.optimizer_step, job_.total_steps);
    engine_.clock().add(Activity::data, seconds_since(start));
    const StepResult result = engine_.step(batch.samples, target_tokens, state_.step, learning_rate_,
                                           state_.optimizer_step + 1, loss_scale());

    // One exchange a step: the loss for the log, and whether somebody asked any rank to stop.
    const double loss_sum = share_stop(result.loss_sum);

    state_.cursor = batch.next;
    ++state_.step;
    if (!result.overflow) {
      ++state_.optimizer_step;
      grad_norm_ = result.grad_norm;
    }
    if (scaler_) update_loss_scale(result.overflow);
    if (!result.overflow || std::isfinite(loss_sum)) {
      state_.loss_sum += loss_sum / static_cast<double>(target_tokens);
      interval_.loss += loss_sum;
      interval_.target_tokens += target_tokens;
    }
    interval_.tokens += tokens;
    interval_.samples += static_cast<std::int64_t>(batch.samples.size());
    ++interval_.steps;
    const double seconds = seconds_since(start);
    interval_.seconds += seconds;
    longest_step_ = std::max(longest_step_, seconds);
    state_.train_seconds += seconds;
    progress_.show(state_.step, fmt::format("loss {:.4f}", loss_sum / static_cast<double>(target_tokens)));
  }

  [[nodiscard]] std::optional<double> loss_scale() const {
    return scaler_ ? std::optional(scaler_->scale()) : std::nullopt;
  }

  /// After the step that is counted by now. Every rank does the same.
  void update_loss_scale(const std::optional<Overflow>& overflow) {
    const double before = scaler_->scale();
    const bool exhausted = scaler_->exhausted();
    scaler_->update(overflow.has_value());
    state_.loss_scale = scaler_->state();
    if (!overflow) return;
    ++interval_.skipped;
    const std::string what =
        fmt::format("step {}: an overflow, first in the {} of {}", state_.step,
                    overflow->forward ? "forward pass" : "gradient", job_.layout->unit_name(overflow->unit));
    if (exhausted)
      throw AgreedFailure(fmt::format("{}, at loss scale {}, the smallest that loss_scale.min allows: training has "
                                      "diverged; nothing was updated in this step",
                                      what, before),
                          ExitCode::failure);
    progress_.hide();
    log::warning(fmt::format("{}: skipped; loss scale {} -> {}", what, before, scaler_->scale()));
  }

  /// \return the sum of `mine` over the ranks, who know afterwards whether any of them has a reason to stop
  double share_stop(double mine) {
    const auto start = Clock::now();
    const StopReason reason = stop_.reason(std::chrono::duration<double>(seconds_to_stop()));
    const std::array<double, 3> values = {mine, static_cast<double>(reason == StopReason::signal),
                                          static_cast<double>(reason == StopReason::time_limit)};
    const std::vector<double> sums = comm::ordered_sum(communicator_, values);
    stop_seen_ = sums[1] > 0.0 ? StopReason::signal : sums[2] > 0.0 ? StopReason::time_limit : StopReason::none;
    engine_.clock().add(Activity::collective, seconds_since(start));
    return sums[0];
  }

  /// What may still run before the next look at the clock, and saving after that. Only between steps is a stop possible.
  [[nodiscard]] double seconds_to_stop() const {
    // Nothing was saved yet: 12 bytes a parameter to a slow disk, and what small files cost.
    const double first = 1.0 + 12.0 * static_cast<double>(job_.map->parameters()) / 2e8;
    const double save = longest_save_ > 0.0 ? longest_save_ : first;
    double seconds = 2.0 * longest_step_ + 1.5 * save;
    // This step is not counted yet, and its evaluation and save come first.
    const std::int64_t step = state_.step + 1;
    const data::Cursor after = sampler_.next(state_.cursor).next;
    if (step >= job_.total_steps || due(options_.eval.eval_steps, step, after)) seconds += longest_evaluation_;
    if (due(options_.checkpoint.save_steps, step, after)) seconds += save;
    return seconds;
  }

  void write_metrics() {
    StepMetrics metrics;
    metrics.step = state_.step;
    metrics.epoch = epoch();
    metrics.loss = interval_.loss / static_cast<double>(interval_.target_tokens);
    metrics.grad_norm = grad_norm_;
    metrics.learning_rate = learning_rate_;
    metrics.loss_scale = loss_scale();
    metrics.skipped = interval_.skipped;
    metrics.seconds_per_step = interval_.seconds / static_cast<double>(interval_.steps);
    metrics.tokens_per_second = static_cast<double>(interval_.tokens) / interval_.seconds;
    metrics.samples_per_second = static_cast<double>(interval_.samples) / interval_.seconds;
    metrics.device_bytes = job_.plan.ledger.total(plan::Tier::device, plan::Phase::step);
    metrics.host_bytes = job_.plan.ledger.total(plan::Tier::host, plan::Phase::step);
    const std::array<double, 1> peak = {static_cast<double>(peak_resident_bytes())};
    metrics.peak_host_bytes = static_cast<std::size_t>(std::ranges::max(comm::all_gather_doubles(communicator_, peak)));
    if (engine_.store() != nullptr) {
      const offload::StoreCounters now = engine_.store()->counters();
      metrics.nvme = {.read_bytes = now.read_bytes - counted_.read_bytes,
                      .written_bytes = now.written_bytes - counted_.written_bytes};
      counted_ = now;
    }
    metrics.clock = engine_.clock();
    engine_.clock().reset();
    interval_ = {};
    if (root()) {
      outputs_->write(metrics);
      progress_.hide();
      log::info(fmt::format(
          "step {}/{}  epoch {:.2f}  loss {:.4f}  grad_norm {:.3f}  lr {:.3g}  {:.1f} samples/s  {:.0f} tokens/s",
          state_.step, job_.total_steps, metrics.epoch, metrics.loss, metrics.grad_norm, metrics.learning_rate,
          metrics.samples_per_second, metrics.tokens_per_second));
    }
  }

  void evaluate_now() {
    if (!job_.eval_examples) return;
    progress_.hide();
    engine_.finish_update();
    last_evaluation_ = evaluate(engine_, communicator_);
    longest_evaluation_ = std::max(longest_evaluation_, last_evaluation_->seconds);
    evaluated_step_ = state_.step;
    agree(communicator_, [&] {
      if (root()) outputs_->write(state_.step, epoch(), *last_evaluation_);
    });
    log::info(fmt::format("evaluation at step {}: {}", state_.step, evaluation_text(*last_evaluation_)));
  }

  /// If there is anything to write: a run that goes on behind the traced steps leaves the file as it is.
  void write_trace_file() {
    Trace* trace = engine_.trace();
    if (trace == nullptr || trace_written_) return;
    trace_written_ = true;
    engine_.finish_update();
    trace->finish();
    if (trace->spans().empty()) {
      log::warning(
          fmt::format("report.trace: no step from {} to {} was run; there is no trace", trace->first(), trace->last()));
      return;
    }
    const std::string path = options_.train.output_dir + "/trace.json";
    write_trace(path, *trace, communicator_);
    log::info(fmt::format("the trace is in {}", path));
  }

  void save() {
    if (last_saved_ == state_.step) return;
    progress_.hide();
    const auto start = Clock::now();
    if (evaluated_step_ == state_.step) note_evaluation(state_, *last_evaluation_);
    const std::string folder = checkpoints_.save(state_);
    longest_save_ = std::max(longest_save_, seconds_since(start));
    last_saved_ = state_.step;
    log::info(fmt::format("saved {} in {:.1f} s", folder, seconds_since(start)));
  }

  void save_stopped() {
    state_.stopped = true;
    last_saved_ = -1;
    save();
    agree(communicator_, [&] {
      if (root())
        outputs_->ask_for_requeue(
            fmt::format("stopped at step {} of {} by {}\n", state_.step, job_.total_steps, name_of(stop_seen_)));
    });
  }

  Outcome stopped() {
    save_stopped();
    write_trace_file();
    log::info(fmt::format("stopped at step {} of {} by {}: run the same command again to go on", state_.step,
                          job_.total_steps, name_of(stop_seen_)));
    return Outcome::stopped;
  }

  Outcome finished() {
    // There may be no time for what follows; then the next run does it.
    if (stop_seen_ != StopReason::none) save_stopped();
    evaluate_now();
    const bool saves =
        options_.checkpoint.save_final || due(options_.checkpoint.save_steps) || last_saved_ == state_.step;
    // A checkpoint that is there already must be written again to say that it is the best.
    if (saves && last_evaluation_ && note_evaluation(state_, *last_evaluation_)) last_saved_ = -1;
    if (saves) save();
    engine_.finish_update();
    write_trace_file();
    if (options_.checkpoint.load_best_model_at_end) load_best_model();
    if (options_.checkpoint.export_model) {
      const std::string folder = options_.train.output_dir + "/model";
      export_model(folder, job_.source, *job_.layout, job_.zero, engine_.state(), communicator_);
      log::info(fmt::format("the model is in {}", folder));
    }
    const RunTotals totals{.epoch = epoch(),
                           .train_seconds = state_.train_seconds,
                           .train_loss = state_.loss_sum / static_cast<double>(std::max<std::int64_t>(1, state_.step)),
                           .train_samples = job_.train_examples->size(),
                           .samples_seen = state_.cursor.epoch * job_.train_examples->size() + state_.cursor.position,
                           .steps = state_.step};
    agree(communicator_, [&] {
      if (!root()) return;
      outputs_->finish(totals, last_evaluation_ ? &*last_evaluation_ : nullptr);
      mark_results(options_, state_);
      fs::remove(outputs_->path("REQUEUE"));
    });
    log::info(fmt::format("trained {} steps in {}, {:.1f} samples/s; results in {}", state_.step,
                          duration_text(state_.train_seconds),
                          static_cast<double>(totals.samples_seen) / state_.train_seconds,
                          options_.train.output_dir + "/all_results.json"));
    return Outcome::finished;
  }

  /// Puts the weights of the best checkpoint in the place of the last ones and evaluates them.
  void load_best_model() {
    if (state_.best_step == state_.step) return;
    if (state_.best_step < 0) {
      log::warning("no step had both a checkpoint and an evaluation: the model is that of the last step");
      return;
    }
    const std::string folder = text_of_rank_0(communicator_, [&] {
      for (const checkpoint::CheckpointEntry& entry : checkpoint::list(job_.options.checkpoint_dir()))
        if (entry.step == state_.best_step) return entry.path;
      return std::string();
    });
    if (folder.empty()) {
      log::warning(fmt::format("the best checkpoint, that of step {}, is not in {}: the model is that of the last step",
                               state_.best_step, job_.options.checkpoint_dir()));
      return;
    }
    checkpoints_.restore_weights(folder);
    log::info(fmt::format("the best model is that of step {}: {} {:.4f}", state_.best_step, state_.best_metric_name,
                          *state_.best_metric));
    evaluate_now();
  }

  struct Interval {
    double loss = 0.0;  // Σ over target tokens
    double seconds = 0.0;
    std::int64_t steps = 0, samples = 0, tokens = 0, target_tokens = 0, skipped = 0;
  };

  const TrainRequest& request_;
  const RunOptions& options_;
  comm::Communicator& communicator_;
  const Job& job_;
  Engine& engine_;
  Checkpoints checkpoints_;
  RunState state_;
  data::BatchSampler sampler_;
  const StopRequest& stop_;
  Progress progress_;
  std::optional<checkpoint::RootLock> lock_;  // rank 0, as what follows
  std::optional<RunOutputs> outputs_;
  std::optional<Evaluation> last_evaluation_;
  StopReason stop_seen_ = StopReason::none;
  Interval interval_;
  std::optional<LossScaler> scaler_;  // fp16
  offload::StoreCounters counted_;
  bool trace_written_ = false;
  std::int64_t last_saved_ = -1, evaluated_step_ = -1;
  double learning_rate_ = 0.0, grad_norm_ = 0.0;
  double longest_step_ = 0.0, longest_save_ = 0.0, longest_evaluation_ = 0.0;
};

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

}  // namespace

Outcome train(const TrainRequest& request, Runtime& runtime) {
  comm::Communicator& communicator = runtime.communicator;
  RunOptions options = request.options;
  // From here on: reading a large model takes a while.
  const StopRequest stop(options.train.time_limit, runtime.start);

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
      if (!options.checkpoint.dir.empty()) make_writable("checkpoint.dir", options.checkpoint.dir);
      if (options.checkpoint.export_model) check_export_directory(options.train.output_dir + "/model");
    }
    remove_abandoned_state(options.offload);
  });
  const std::optional<ResumePoint> resumed = find_resume_point(options, request.config, communicator);
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
  return Run(request, runtime, *job, *engine, stop, resumed ? std::optional(resumed->folder) : std::nullopt, state)
      .execute();
}

}  // namespace spillway::train
