// SPDX-License-Identifier: Apache-2.0
#include "train/trainer.hpp"

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <optional>

#include <fmt/format.h>

#include "core/log.hpp"
#include "offload/scratch_file.hpp"
#include "train/agreement.hpp"
#include "train/checkpoints.hpp"
#include "train/evaluation.hpp"
#include "train/machine.hpp"
#include "train/metrics.hpp"
#include "train/plan_file.hpp"
#include "train/progress.hpp"
#include "train/schedule.hpp"
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
    if (resume_from) {
      checkpoints_.restore(*resume_from);
      log::info(fmt::format("resumed from {} at step {}", *resume_from, state_.step));
    } else {
      agree(communicator_, [&] {
        load_weights(job.source, *job.layout, options_.train.seed, options_.model.embedding_std, job.zero,
                     engine_.parameters());
      });
    }
    agree(communicator_, [&] { open_outputs(); });
  }

  Outcome execute() {
    last_saved_ = state_.step;
    while (state_.step < job_.total_steps) {
      step();
      const bool last = state_.step == job_.total_steps;
      if (due(options_.train.logging_steps) || last) write_metrics();
      if (due(options_.eval.eval_steps) && !last) evaluate_now();
      const StopReason reason = stop_reason();
      if (due(options_.checkpoint.save_steps) || reason != StopReason::none) save();
      if (reason != StopReason::none && !last) return stopped(reason);
    }
    return finished();
  }

 private:
  [[nodiscard]] bool root() const { return communicator_.rank() == 0; }
  [[nodiscard]] bool due(std::int64_t every) const { return every > 0 && state_.step % every == 0; }
  [[nodiscard]] std::string output(const std::string& name) const { return options_.train.output_dir + "/" + name; }
  [[nodiscard]] double epoch() const {
    return static_cast<double>(state_.cursor.epoch) +
           static_cast<double>(state_.cursor.position) / static_cast<double>(job_.train_examples->size());
  }

  void open_outputs() {
    if (!root()) return;
    fs::remove(output("REQUEUE"));
    write_file(output("config.toml"), request_.config.toml);
    write_file(output("plan.json"), plan_json(job_));
    metrics_.emplace(output("metrics.jsonl"));
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
    const StepResult result =
        engine_.step(batch.samples, target_tokens, state_.step, learning_rate_, state_.optimizer_step + 1);

    const auto collective = Clock::now();
    // One exchange a step: the loss for the log, and whether somebody asked any rank to stop.
    const std::array<double, 3> mine = {result.loss_sum, static_cast<double>(stop_here() == StopReason::signal),
                                        static_cast<double>(stop_here() == StopReason::time_limit)};
    const std::vector<double> sums = comm::ordered_sum(communicator_, mine);
    engine_.clock().add(Activity::collective, seconds_since(collective));
    stop_seen_ = sums[1] > 0.0 ? StopReason::signal : sums[2] > 0.0 ? StopReason::time_limit : StopReason::none;

    state_.cursor = batch.next;
    ++state_.step;
    ++state_.optimizer_step;
    state_.loss_sum += sums[0] / static_cast<double>(target_tokens);
    grad_norm_ = result.grad_norm;
    interval_.loss += sums[0];
    interval_.target_tokens += target_tokens;
    interval_.tokens += tokens;
    interval_.samples += static_cast<std::int64_t>(batch.samples.size());
    ++interval_.steps;
    const double seconds = seconds_since(start);
    interval_.seconds += seconds;
    longest_step_ = std::max(longest_step_, seconds);
    state_.train_seconds += seconds;
    progress_.show(state_.step, fmt::format("loss {:.4f}", sums[0] / static_cast<double>(target_tokens)));
  }

  /// A stop leaves time for another step and for saving.
  [[nodiscard]] StopReason stop_here() const {
    return stop_.reason(std::chrono::duration<double>(2.0 * longest_step_ + 1.5 * longest_save_));
  }
  [[nodiscard]] StopReason stop_reason() const { return stop_seen_; }

  void write_metrics() {
    StepMetrics metrics;
    metrics.step = state_.step;
    metrics.epoch = epoch();
    metrics.loss = interval_.loss / static_cast<double>(interval_.target_tokens);
    metrics.grad_norm = grad_norm_;
    metrics.learning_rate = learning_rate_;
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
      metrics_->write(metrics);
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
    const Evaluation& e = *last_evaluation_;
    const bool better =
        !state_.best_metric || (e.bleu ? e.bleu->score > *state_.best_metric : e.loss < *state_.best_metric);
    if (better) {
      state_.best_metric = e.bleu ? e.bleu->score : e.loss;
      state_.best_step = state_.step;
    }
    agree(communicator_, [&] {
      if (!root()) return;
      metrics_->write(state_.step, epoch(), e);
      if (e.bleu) write_file(output("generated_predictions.txt"), predictions_text(e));
    });
    std::string generated;
    if (e.bleu)
      generated = fmt::format(", BLEU {:.2f} (copying the source: {:.2f}), {:.1f} tokens a prediction, {:.1f} s\n{}",
                              e.bleu->score, e.copied->score, e.generated_length, e.seconds, e.bleu->text());
    log::info(fmt::format("evaluation at step {}: loss {:.4f}{}", state_.step, e.loss, generated));
  }

  void save() {
    if (last_saved_ == state_.step) return;
    progress_.hide();
    const auto start = Clock::now();
    const std::string folder = checkpoints_.save(state_);
    longest_save_ = std::max(longest_save_, seconds_since(start));
    last_saved_ = state_.step;
    log::info(fmt::format("saved {} in {:.1f} s", folder, seconds_since(start)));
  }

  Outcome stopped(StopReason reason) {
    agree(communicator_, [&] {
      if (root())
        write_file(output("REQUEUE"),
                   fmt::format("stopped at step {} of {} by {}\n", state_.step, job_.total_steps, name_of(reason)));
    });
    log::info(fmt::format("stopped at step {} of {} by {}: run the same command again to go on", state_.step,
                          job_.total_steps, name_of(reason)));
    return Outcome::stopped;
  }

  Outcome finished() {
    if (options_.checkpoint.save_final) save();
    evaluate_now();
    engine_.finish_update();
    if (options_.checkpoint.export_model) {
      export_model(output("model"), job_.source, *job_.layout, job_.zero, engine_.parameters(), communicator_);
      log::info(fmt::format("the model is in {}", output("model")));
    }
    const RunTotals totals{.epoch = epoch(),
                           .train_seconds = state_.train_seconds,
                           .train_loss = state_.loss_sum / static_cast<double>(std::max<std::int64_t>(1, state_.step)),
                           .train_samples = job_.train_examples->size(),
                           .samples_seen = state_.cursor.epoch * job_.train_examples->size() + state_.cursor.position,
                           .steps = state_.step};
    agree(communicator_, [&] {
      if (root())
        write_all_results(output("all_results.json"), &totals, last_evaluation_ ? &*last_evaluation_ : nullptr);
    });
    log::info(fmt::format("trained {} steps in {}, {:.1f} samples/s; results in {}", state_.step,
                          duration_text(state_.train_seconds),
                          static_cast<double>(totals.samples_seen) / state_.train_seconds, output("all_results.json")));
    return Outcome::finished;
  }

  struct Interval {
    double loss = 0.0;  // Σ over target tokens
    double seconds = 0.0;
    std::int64_t steps = 0, samples = 0, tokens = 0, target_tokens = 0;
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
  std::optional<MetricsFile> metrics_;
  std::optional<Evaluation> last_evaluation_;
  StopReason stop_seen_ = StopReason::none;
  Interval interval_;
  offload::StoreCounters counted_;
  std::int64_t last_saved_ = -1;
  double learning_rate_ = 0.0, grad_norm_ = 0.0;
  double longest_step_ = 0.0, longest_save_ = 0.0;
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

/// Whether a run that has come to its last step was not killed after that. Takes back its wish to be started again.
bool has_results(const RunOptions& options, comm::Communicator& communicator) {
  const std::string& output = options.train.output_dir;
  return !text_of_rank_0(communicator, [&] {
            std::error_code ignored;
            fs::remove(output + "/REQUEUE", ignored);
            const bool exported = !options.checkpoint.export_model || fs::is_directory(output + "/model");
            return std::string(exported && fs::exists(output + "/all_results.json") ? "yes" : "");
          }).empty();
}

/// Ranks that would run different programs must not begin: they would wait for each other for ever.
void compare_programs(const Job& job, comm::Communicator& communicator) {
  const std::uint64_t mine = job.plan.program.hash();
  const auto all = communicator.exchange(std::as_bytes(std::span(&mine, 1)));
  for (std::size_t rank = 0; rank < all.size(); ++rank)
    if (!std::equal(all[rank].begin(), all[rank].end(), all[0].begin(), all[0].end()))
      throw CommunicationError(fmt::format("rank {} planned another step program than rank 0", rank));
}

}  // namespace

Outcome train(const TrainRequest& request, Runtime& runtime) {
  comm::Communicator& communicator = runtime.communicator;
  RunOptions options = request.options;
  const std::string root =
      options.checkpoint.dir.empty() ? options.train.output_dir + "/checkpoints" : options.checkpoint.dir;

  // From here on: reading a large model takes a while.
  const StopRequest stop(options.train.time_limit, runtime.start);

  std::optional<std::string> resume_from;
  RunState state;
  agree(communicator, [&] {
    if (!request.dry_run && communicator.rank() == 0) {
      make_writable("train.output_dir", options.train.output_dir);
      if (!options.checkpoint.dir.empty()) make_writable("checkpoint.dir", options.checkpoint.dir);
    }
    if (!request.dry_run) remove_abandoned_state(options.offload);
    resume_from = find_checkpoint(options.checkpoint, root);
    if (!resume_from) return;
    const checkpoint::CheckpointReader reader(*resume_from);
    state = run_state_from_json(reader.metadata(), *resume_from);
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
  if (resume_from) {
    if (const std::string changes = signature_changes(state.signature, signature); !changes.empty())
      log::info("the numeric signature changed: " + changes);
    if (state.step >= job->total_steps) {
      log::info(fmt::format("{} is at step {} of {}: there is nothing left to train", *resume_from, state.step,
                            job->total_steps));
      if (has_results(options, communicator)) return Outcome::finished;
    }
  }
  compare_programs(*job, communicator);
  state.total_steps = job->total_steps;
  state.global_batch_size = job->global_batch_size;
  state.config = request.config;
  state.signature = signature;
  state.model_json = model::export_config_json(job->source.config, job->source.dtype);
  state.model_dtype = job->source.dtype;
  state.generation_json = job->source.generation_json;
  state.tokenizer = job->source.tokenizer.empty() || job->source.tokenizer == "bytes"
                        ? job->source.tokenizer
                        : fs::absolute(job->source.tokenizer).string();
  const auto engine = make_engine(*job, runtime);
  return Run(request, runtime, *job, *engine, stop, resume_from, state).execute();
}

}  // namespace spillway::train
