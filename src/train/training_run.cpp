// SPDX-License-Identifier: Apache-2.0
#include "train/training_run.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <utility>

#include <fmt/format.h>

#include "checkpoint/root_lock.hpp"
#include "comm/watchdog.hpp"
#include "core/log.hpp"
#include "train/agreement.hpp"
#include "train/best_model.hpp"
#include "train/checkpoints.hpp"
#include "train/consistency.hpp"
#include "train/due.hpp"
#include "train/evaluation.hpp"
#include "train/hugging_face.hpp"
#include "train/interval_metrics.hpp"
#include "train/job_costs.hpp"
#include "train/loss_scaler.hpp"
#include "train/progress.hpp"
#include "train/resume.hpp"
#include "train/run_accounting.hpp"
#include "train/run_outputs.hpp"
#include "train/schedule.hpp"
#include "train/stop_agreement.hpp"
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
        watchdog_(communicator_.watchdog()),
        job_(job),
        engine_(engine),
        checkpoints_(engine_, communicator_),
        state_(std::move(state)),
        sampler_(job.train_examples->size(), job.global_batch_size, options_.train.seed, options_.data.shuffle),
        stop_(stop, job, sampler_, communicator_, engine_.clock()),
        interval_(job, engine_, communicator_),
        accounting_(job),
        progress_(state_.step, job.total_steps, request.progress_bar && communicator_.rank() == 0) {
    if (job.dtype() == DType::f16) {
      scaler_.emplace(options_.loss_scale);
      if (state_.loss_scale) scaler_->restore(*state_.loss_scale);
      state_.loss_scale = scaler_->state();
    } else {
      state_.loss_scale.reset();
    }
    if (options_.train.consistency_check_steps > 0) consistency_.emplace(engine_, communicator_, state_.step);
    watchdog_.about("loading the weights");
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
    try {
      return train();
    } catch (const Inconsistency&) {
      throw;  // what is being saved may be as wrong
    } catch (const AgreedFailure&) {
      // Every rank is here. What a failed step had no part in is worth keeping.
      finish_save_quietly();
      throw;
    }
  }

 private:
  Outcome train() {
    last_saved_ = state_.step;
    interval_.resume();
    while (state_.step < job_.total_steps) {
      step();
      if (train::due(options_.train.consistency_check_steps, state_.step, state_.cursor)) check_consistency();
      if (stop_.saves_ready()) advance_save();
      // One step later, so that the last one's update overlaps what follows as always.
      if (engine_.trace() != nullptr && state_.step == engine_.trace()->last() + 1) write_trace_file();
      const bool last = state_.step == job_.total_steps;
      if (due(options_.train.logging_steps) || last) write_metrics();
      if (last) break;
      if (stop_.seen() == StopReason::none && due(options_.eval.eval_steps)) {
        evaluate_now();
        stop_.share({}, state_);  // it may have taken long
      }
      if (stop_.seen() != StopReason::none) return stopped();
      if (due(options_.checkpoint.save_steps)) save();
    }
    return finished();
  }

  [[nodiscard]] bool root() const { return communicator_.rank() == 0; }
  [[nodiscard]] bool due(const StepInterval& every) const { return train::due(every, state_.step, state_.cursor); }
  [[nodiscard]] double epoch() const {
    return static_cast<double>(state_.cursor.epoch) +
           static_cast<double>(state_.cursor.position) / static_cast<double>(job_.train_examples->size());
  }

  void step() {
    const auto start = Clock::now();
    data::BatchSampler::GlobalBatch batch = sampler_.next(state_.cursor);
    std::int64_t target_tokens = 0;
    std::int64_t tokens = 0;
    BatchShape shape;
    for (const std::int64_t sample : batch.samples) {
      const std::size_t source = job_.train_examples->source(sample).size();
      const std::size_t target = job_.train_examples->target(sample).size();
      target_tokens += static_cast<std::int64_t>(target);
      tokens += static_cast<std::int64_t>(source + target);
      shape.add(static_cast<double>(source), static_cast<double>(target));
    }
    learning_rate_ =
        learning_rate_at(options_.schedule, options_.optimizer.learning_rate, state_.optimizer_step, job_.total_steps);
    engine_.clock().add(Activity::data, seconds_since(start));
    watchdog_.begin_step(state_.step + 1);
    const StepResult result = engine_.step(batch.samples, target_tokens, state_.step, learning_rate_,
                                           state_.optimizer_step + 1, loss_scale());

    watchdog_.about("end of the step");
    // One exchange a step: the loss for the log, and whether somebody asked any rank to stop.
    const double loss_sum = stop_.share(result.loss_sum, state_, checkpoints_.ready());

    state_.cursor = batch.next;
    ++state_.step;
    if (!result.overflow) {
      ++state_.optimizer_step;
      grad_norm_ = result.grad_norm;
    }
    if (scaler_) update_loss_scale(result.overflow);
    CountedStep counted{.tokens = tokens,
                        .samples = static_cast<std::int64_t>(batch.samples.size()),
                        .model_flops = model_flops(job_.source.config, shape),
                        .skipped = result.overflow.has_value()};
    if (!result.overflow || std::isfinite(loss_sum)) {
      state_.loss_sum += loss_sum / static_cast<double>(target_tokens);
      counted.loss = loss_sum;
      counted.target_tokens = target_tokens;
    }
    const double seconds = seconds_since(start);
    counted.seconds = seconds;
    interval_.add(counted);
    stop_.step_took(seconds);
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

  void check_consistency() {
    watchdog_.about("consistency check");
    engine_.finish_update();
    const IntervalMetrics::Pause pause(interval_);
    consistency_->run(state_);
  }

  void write_metrics() {
    watchdog_.about("metrics");
    if (state_.step == job_.total_steps) engine_.finish_update();  // what it moves belongs to this line
    StepMetrics metrics = interval_.take();
    accounting_.add(metrics);
    metrics.step = state_.step;
    metrics.epoch = epoch();
    metrics.grad_norm = grad_norm_;
    metrics.learning_rate = learning_rate_;
    metrics.loss_scale = loss_scale();
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
    watchdog_.about("evaluation");
    progress_.hide();
    engine_.finish_update();
    const IntervalMetrics::Pause pause(interval_);
    last_evaluation_ = evaluate(engine_, communicator_);
    stop_.evaluation_took(last_evaluation_->seconds);
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
    watchdog_.about("trace");
    const std::string path = options_.train.output_dir + "/trace.json";
    write_trace(path, *trace, communicator_);
    log::info(fmt::format("the trace is in {}", path));
  }

  /// Of rank 0.
  void show_accounting() const {
    if (!accounting_.empty()) log::info(accounting_.text());
  }

  /// Beside training where that is planned; else it is saved on return. There is one save at a time: the one before is waited for.
  void save() {
    if (last_saved_ == state_.step) return;
    finish_save();
    watchdog_.about("checkpoint");
    const auto start = Clock::now();
    if (evaluated_step_ == state_.step) note_evaluation(state_, *last_evaluation_);
    stop_.save_began();
    if (checkpoints_.beside_training()) {
      checkpoints_.begin(state_);
    } else {
      progress_.hide();
      engine_.finish_update();
      const IntervalMetrics::Pause pause(interval_);
      checkpoints_.begin(state_);
      saved(checkpoints_.finish());
    }
    last_saved_ = state_.step;
    interval_.add_save(seconds_since(start));
  }

  void advance_save() {
    watchdog_.about("checkpoint");
    const auto start = Clock::now();
    if (const std::optional<SavedCheckpoint> checkpoint = checkpoints_.advance()) saved(*checkpoint);
    interval_.add_save(seconds_since(start));
  }

  void finish_save() {
    if (!checkpoints_.under_way()) return;
    watchdog_.about("checkpoint");
    const auto start = Clock::now();
    saved(checkpoints_.finish());
    interval_.add_save(seconds_since(start));
  }

  /// After another failure, which is the one to report.
  void finish_save_quietly() {
    try {
      finish_save();
    } catch (const AgreedFailure& error) {
      log::error(error.what());
    }
  }

  void saved(const SavedCheckpoint& checkpoint) {
    stop_.save_took(checkpoint.seconds);
    progress_.hide();
    log::info(fmt::format("saved {} in {:.1f} s", checkpoint.folder, checkpoint.seconds));
  }

  void save_stopped() {
    state_.stopped = true;
    last_saved_ = -1;
    save();
    finish_save();
    agree(communicator_, [&] {
      if (root())
        outputs_->ask_for_requeue(
            fmt::format("stopped at step {} of {} by {}\n", state_.step, job_.total_steps, name_of(stop_.seen())));
    });
  }

  Outcome stopped() {
    save_stopped();
    write_trace_file();
    show_accounting();
    log::info(fmt::format("stopped at step {} of {} by {}: run the same command again to go on", state_.step,
                          job_.total_steps, name_of(stop_.seen())));
    return Outcome::stopped;
  }

  Outcome finished() {
    // There may be no time for what follows; then the next run does it.
    if (stop_.seen() != StopReason::none) save_stopped();
    evaluate_now();
    const bool saves =
        options_.checkpoint.save_final || due(options_.checkpoint.save_steps) || last_saved_ == state_.step;
    // A checkpoint that is there already must be written again to say that it is the best.
    if (saves && last_evaluation_ && note_evaluation(state_, *last_evaluation_)) last_saved_ = -1;
    if (saves) save();
    finish_save();
    engine_.finish_update();
    write_trace_file();
    if (options_.checkpoint.load_best_model_at_end) load_best_model();
    if (options_.checkpoint.export_model) {
      watchdog_.about("export of the model");
      const std::string folder = options_.train.output_dir + "/model";
      export_model(folder, job_.source, *job_.layout, job_.zero, engine_.state(), communicator_);
      log::info(fmt::format("the model is in {}", folder));
    }
    const RunTotals totals{.epoch = epoch(),
                           .train_seconds = state_.train_seconds,
                           .train_loss = state_.loss_sum / static_cast<double>(std::max<std::int64_t>(1, state_.step)),
                           .train_samples = job_.train_examples->size(),
                           .samples_seen = state_.cursor.epoch * job_.train_examples->size() + state_.cursor.position,
                           .steps = state_.step,
                           .accounting = accounting_.empty() ? std::string() : accounting_.json()};
    agree(communicator_, [&] {
      if (!root()) return;
      outputs_->finish(totals, last_evaluation_ ? &*last_evaluation_ : nullptr);
      mark_results(options_, state_);
      fs::remove(outputs_->path("REQUEUE"));
    });
    show_accounting();
    log::info(fmt::format("trained {} steps in {}, {:.1f} samples/s; results in {}", state_.step,
                          duration_text(state_.train_seconds),
                          static_cast<double>(totals.samples_seen) / state_.train_seconds,
                          options_.train.output_dir + "/all_results.json"));
    return Outcome::finished;
  }

  /// Puts the weights of the best checkpoint in the place of the last ones and evaluates them.
  void load_best_model() {
    if (state_.best_step == state_.step) return;
    const std::string folder = best_checkpoint(state_, job_.options.checkpoint_dir(), communicator_);
    if (folder.empty()) return;
    checkpoints_.restore_weights(folder);
    log::info(fmt::format("the best model is that of step {}: {} {:.4f}", state_.best_step, state_.best_metric_name,
                          *state_.best_metric));
    evaluate_now();
  }

  const TrainRequest& request_;
  const RunOptions& options_;
  comm::Communicator& communicator_;
  comm::Watchdog& watchdog_;
  const Job& job_;
  Engine& engine_;
  Checkpoints checkpoints_;
  RunState state_;
  data::BatchSampler sampler_;
  StopAgreement stop_;
  IntervalMetrics interval_;
  RunAccounting accounting_;
  Progress progress_;
  std::optional<checkpoint::RootLock> lock_;  // rank 0, as what follows
  std::optional<RunOutputs> outputs_;
  std::optional<Evaluation> last_evaluation_;
  std::optional<LossScaler> scaler_;  // fp16
  std::optional<ConsistencyCheck> consistency_;
  bool trace_written_ = false;
  std::int64_t last_saved_ = -1, evaluated_step_ = -1;
  double learning_rate_ = 0.0, grad_norm_ = 0.0;
};

}  // namespace

Outcome run_training(const TrainRequest& request, Runtime& runtime, const Job& job, Engine& engine,
                     const StopRequest& stop, std::optional<std::string> resume_from, RunState state) {
  return Run(request, runtime, job, engine, stop, std::move(resume_from), std::move(state)).execute();
}

}  // namespace spillway::train
