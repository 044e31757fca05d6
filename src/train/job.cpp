// SPDX-License-Identifier: Apache-2.0
#include "train/job.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>

#include <fmt/format.h>

#include "checkpoint/files.hpp"
#include "core/error.hpp"
#include "core/log.hpp"
#include "plan/fastest.hpp"
#include "train/agreement.hpp"
#include "train/budgets.hpp"
#include "train/generation_settings.hpp"
#include "train/job_batches.hpp"
#include "train/job_costs.hpp"
#include "train/job_facts.hpp"
#include "train/schedule.hpp"
#include "train/snapshot_layout.hpp"

namespace spillway::train {
namespace {

data::Examples read_examples(const DataOptions& data, const std::vector<std::string>& paths, std::int64_t max_samples,
                             bool keep_text, const data::Tokenizer& tokenizer, std::int64_t vocabulary) {
  return data::Examples::read({.paths = paths,
                               .source_key = data.source_key,
                               .target_key = data.target_key,
                               .source_prefix = data.source_prefix.value_or(""),
                               .max_source_length = data.max_source_length,
                               .max_target_length = data.max_target_length,
                               .max_samples = max_samples,
                               .vocabulary = vocabulary,
                               .keep_text = keep_text},
                              tokenizer);
}

std::string truncation_note(const data::Examples& examples, const DataOptions& data) {
  if (examples.truncated_sources() + examples.truncated_targets() == 0) return {};
  return fmt::format("; {} sources cut to {} tokens, {} targets to {}", examples.truncated_sources(),
                     data.max_source_length, examples.truncated_targets(), data.max_target_length);
}

void read_data(Job& job, comm::Communicator& communicator, const std::vector<std::string>& eval_paths) {
  const RunOptions& o = job.options;
  agree(communicator, [&] {
    job.tokenizer = open_tokenizer(job.source);
    if (job.purpose == Purpose::train) {
      if (o.data.train.empty())
        throw ConfigError("data.train is not set: name BASE of BASE.source and BASE.target, a .jsonl or a .tsv file");
      job.train_examples = read_examples(o.data, o.data.train, o.data.max_train_samples, false, *job.tokenizer,
                                         job.source.config.vocab_size);
    }
    if (!eval_paths.empty())
      job.eval_examples = read_examples(o.data, eval_paths, o.data.max_eval_samples, true, *job.tokenizer,
                                        job.source.config.vocab_size);
  });
  if (job.train_examples)
    log::info(fmt::format("{}: {} pairs{}", fmt::join(o.data.train, ", "), job.train_examples->size(),
                          truncation_note(*job.train_examples, o.data)));
  if (job.eval_examples)
    log::info(fmt::format("{}: {} pairs{}", fmt::join(eval_paths, ", "), job.eval_examples->size(),
                          truncation_note(*job.eval_examples, o.data)));
}

StorageFormat format_of(StateFormat format) {
  switch (format) {
    case StateFormat::fp32: return StorageFormat::fp32;
    case StateFormat::bf16: return StorageFormat::bf16;
    case StateFormat::int8: return StorageFormat::int8;
  }
  return StorageFormat::fp32;
}

DType weight_dtype(Precision precision) {
  switch (precision) {
    case Precision::bf16: return DType::bf16;
    case Precision::fp16: return DType::f16;
    case Precision::automatic:
    case Precision::fp32: break;
  }
  return DType::f32;
}

/// Keys that would do nothing are not accepted in silence.
void check_adafactor(const RunOptions& options) {
  const OptimizerOptions& o = options.optimizer;
  const RunOptions defaults;
  if (o.state_format != StateFormat::fp32)
    throw ConfigError("optimizer.state_format: Adafactor's state is small and stays in fp32");
  if (o.warmup_init && !o.relative_step)
    throw ConfigError("optimizer.warmup_init = true needs optimizer.relative_step = true");
  for (const auto& [key, asked] :
       {std::pair{"optimizer.betas", o.betas != defaults.optimizer.betas},
        std::pair{"optimizer.eps", o.eps != defaults.optimizer.eps},
        std::pair{"offload.exp_avg", options.offload.exp_avg != defaults.offload.exp_avg},
        std::pair{"offload.exp_avg_sq", options.offload.exp_avg_sq != defaults.offload.exp_avg_sq}})
    if (asked) throw ConfigError(fmt::format("{} is AdamW's; leave it out with optimizer.name = \"adafactor\"", key));
  if (!o.relative_step) return;
  for (const auto& [key, asked] :
       {std::pair{"optimizer.learning_rate", o.learning_rate != defaults.optimizer.learning_rate},
        std::pair{"[schedule]", options.schedule != defaults.schedule}})
    if (asked) throw ConfigError(fmt::format("{}: with optimizer.relative_step Adafactor sets the rate itself", key));
}

/// What the optimizer's keys can mean together.
void check_optimizer(const RunOptions& options) {
  const OptimizerOptions& o = options.optimizer;
  if (o.name == OptimizerName::adafactor) return check_adafactor(options);
  const OptimizerOptions defaults;
  for (const auto& [key, asked] : {std::pair{"scale_parameter", o.scale_parameter},
                                   std::pair{"relative_step", o.relative_step}, std::pair{"warmup_init", o.warmup_init},
                                   std::pair{"clip_threshold", o.clip_threshold != defaults.clip_threshold}})
    if (asked) throw ConfigError(fmt::format("optimizer.{} is Adafactor's; set optimizer.name = \"adafactor\"", key));
}

/// Who can update what.
void check_optimizer_place(const RunOptions& options, bool on_gpu) {
  const OptimizerPlace place = options.offload.optimizer_on;
  if (!on_gpu) {
    if (place == OptimizerPlace::gpu || place == OptimizerPlace::split)
      throw ConfigError(
          "offload.optimizer_on = \"gpu\" and \"split\" need a GPU; without one the CPU updates everything");
    return;
  }
  if (options.optimizer.name == OptimizerName::adafactor &&
      (place == OptimizerPlace::cpu || place == OptimizerPlace::split))
    throw ConfigError(
        "offload.optimizer_on = \"cpu\" and \"split\" with a GPU are for AdamW: what an Adafactor step makes of its "
        "means is "
        "in the GPU's memory; leave it out, or set \"gpu\"");
}

/// Who holds what, and in which formats.
void lay_out_state(Job& job, int rank) {
  const RunOptions& o = job.options;
  const int ranks = job.map->ranks();
  const comm::NodeLayout groups =
      o.zero.shard_group == ShardGroup::node ? job.nodes : comm::NodeLayout::filled(1, ranks);
  job.zero = Zero::over(*job.map, o.zero.stage, rank, groups);
  for (int unit = 0; unit < job.map->units(); ++unit)
    job.units.push_back({.persistent = job.layout->persistent(unit),
                         .trainable = job.layout->trainable(unit),
                         .written_once = job.layout->written_once(unit)});

  if (o.train.precision == Precision::fp16 && !job.on_gpu)
    throw ConfigError("train.precision = \"fp16\" needs a GPU: on the CPU there are \"fp32\" and \"bf16\"");
  const DType weight = weight_dtype(o.train.precision);
  const OffloadOptions& offload = o.offload;
  if (weight == DType::f32 && offload.master != TierChoice::automatic && offload.master != offload.weight)
    throw ConfigError("offload.master: in fp32 the weight is its own master; set offload.weight");
  const TierChoice weight_tier = offload.weight != TierChoice::automatic ? offload.weight : offload.placement;
  if (job.on_gpu && ranks > 1 && weight_tier == TierChoice::host)
    throw ConfigError(
        "offload.weight = \"host\" with several ranks on GPUs is not in this version yet: weights are streamed to one "
        "GPU; set offload.weight = \"device\", whose parts zero.stage = 3 shares out over the ranks");
  const bool training = job.purpose == Purpose::train;
  if (training) check_optimizer(o);
  if (training) check_optimizer_place(o, job.on_gpu);
  const bool adamw = o.optimizer.name == OptimizerName::adamw;
  std::vector<TensorSpec> trainable;
  for (const TensorSpec& tensor : job.map->tensors())
    if (job.units[static_cast<std::size_t>(tensor.unit)].trainable) trainable.push_back(tensor);
  job.trainable_map = std::make_unique<ShardMap>(std::move(trainable), ranks, job.map->units());
  if (!training)
    for (plan::UnitRole& unit : job.units) unit.trainable = false;
  job.state = std::make_unique<StateLayout>(
      job.units,
      StateLayout::Formats{.weight = weight, .moments = adamw, .moment = format_of(o.optimizer.state_format)});
  if (training && !adamw) job.adafactor = std::make_unique<AdafactorState>(*job.map, job.units);
  const auto dtype_of = [&](GradientDType choice) { return choice == GradientDType::fp32 ? DType::f32 : weight; };
  job.gradients = {.reduce = dtype_of(o.zero.reduce_dtype),
                   .grad = dtype_of(o.zero.grad_dtype),
                   .zero = &job.zero,
                   .units = job.units};
}

}  // namespace

bool Job::gathers_weights() const {
  const std::vector<bool> streamed = plan.placement.streamed_units(facts);
  return facts.gathers_weights || std::ranges::find(streamed, true) != streamed.end();
}

std::vector<std::size_t> Job::training_stage_bytes(bool keep_activations) const {
  std::vector<std::size_t> bytes;
  for (const model::Stage& stage : stages)
    bytes.push_back(model::stage_bytes(stage, source.config, dtype(), train_limits, true, keep_activations));
  return bytes;
}

std::vector<std::size_t> Job::inference_stage_bytes() const {
  std::vector<std::size_t> bytes;
  for (const model::Stage& stage : stages)
    bytes.push_back(model::stage_bytes(stage, source.config, dtype(), eval_limits, false, false));
  return bytes;
}

std::vector<std::string> nvme_directories(const OffloadOptions& offload) {
  const char* scratch = std::getenv("SLURM_TMPDIR");
  if (offload.nvme_dirs.empty() && scratch != nullptr && *scratch != '\0') return {scratch};
  return offload.nvme_dirs;
}

namespace {

/// What prepare_job and plan_job share.
struct Preparation {
  const PlannedMachine& machine;
  comm::Communicator& communicator;
  const GenerateLimits& generate;
  const std::vector<std::string>& eval_paths;
  bool reads_data = true;
};

/// Of a job whose facts and budgets are known.
void choose_plan(Job& job) {
  if (job.purpose != Purpose::train) {
    job.plan = plan::make_plan(job.facts, job.budgets);
    return;
  }
  job.costs = costs_of(job);
  plan::PredictedPlan chosen =
      plan::fastest_plan(job.facts, job.budgets, job.costs, job.profile ? &*job.profile : nullptr);
  job.plan = std::move(chosen.plan);
  job.prediction = std::move(chosen.prediction);
  add_snapshot(job, room_for_snapshot(job));
}

/// What follows from the batch sizes: facts and budgets. Collective.
void size_and_budget(Job& job, const Preparation& how) {
  agree(how.communicator, [&] { size_batches(job, how.generate); });
  agree(how.communicator, [&] {
    job.facts = facts_of(job, how.machine);
    job.budgets = budgets_of(job, how.machine);
  });
  agree_on_budgets(job.budgets, job.facts, how.communicator);
}

/// Rank 0's choice, for all. Collective.
std::int64_t agreed_fastest_batch(Job& job, const Preparation& how) {
  std::array<double, 1> samples{};
  agree(how.communicator, [&] {
    if (job.options.train.global_batch_size == 0)
      throw ConfigError(
          "train.per_device_train_batch_size = \"auto\" needs train.global_batch_size: samples of a step");
    if (how.communicator.rank() == 0) samples[0] = static_cast<double>(fastest_batch(job, how.machine));
  });
  const auto chosen = static_cast<std::int64_t>(comm::all_gather_doubles(how.communicator, samples).front());
  log::info(fmt::format("train.per_device_train_batch_size: {}", chosen));
  return chosen;
}

std::unique_ptr<Job> prepare(const RunOptions& options, Purpose purpose, const Preparation& how) {
  auto job = std::make_unique<Job>();
  job->options = options;
  job->purpose = purpose;
  job->on_gpu = how.machine.has_gpu();
  job->nodes = how.machine.nodes();
  if (const plan::MachineProfile* profile = how.machine.profile()) job->profile = *profile;
  comm::Communicator& communicator = how.communicator;
  agree(communicator, [&] {
    if (purpose == Purpose::train) check_schedule(options.schedule, options.optimizer.learning_rate);
    job->source = open_model(options.model);
    apply_task(job->options, job->source);
  });
  job->source.dtype = export_dtype(options.checkpoint.export_dtype, job->source.dtype);
  const bool trains = purpose == Purpose::train;
  job->layout = std::make_unique<model::T5Layout>(job->source.config,
                                                  model::Freezing{.embeddings = trains && options.train.freeze_embeds,
                                                                  .encoder = trains && options.train.freeze_encoder});
  job->map = std::make_unique<ShardMap>(job->layout->tensors(), job->nodes.ranks());
  agree(communicator, [&] { lay_out_state(*job, communicator.rank()); });
  job->stages = model::t5_stages(job->source.config, *job->layout);
  job->thread_placement = how.machine.threads(communicator);
  job->threads = job->thread_placement.threads;
  job->nvme_dirs = nvme_directories(options.offload);
  job->extent_elements = extent_elements(*job);

  if (purpose == Purpose::generate) agree(communicator, [&] { job->tokenizer = open_tokenizer(job->source); });
  else if (how.reads_data) read_data(*job, communicator, how.eval_paths);
  size_and_budget(*job, how);
  if (trains && options.train.per_device_train_batch_size == TrainOptions::kFastestBatch) {
    job->options.train.per_device_train_batch_size = agreed_fastest_batch(*job, how);
    size_and_budget(*job, how);
  }
  agree(communicator, [&] {
    try {
      choose_plan(*job);
    } catch (const PlanError& error) {
      if (purpose != Purpose::train) throw;
      throw PlanError(fmt::format("{}{}", error.what(), largest_batch_note(*job, how.machine)));
    }
  });
  return job;
}

}  // namespace

std::unique_ptr<Job> prepare_job(const RunOptions& options, Purpose purpose, Runtime& runtime,
                                 const GenerateLimits& generate, const std::vector<std::string>& eval_paths) {
  const ThisMachine machine(runtime);
  return prepare(
      options, purpose,
      {.machine = machine, .communicator = runtime.communicator, .generate = generate, .eval_paths = eval_paths});
}

std::unique_ptr<Job> plan_job(const RunOptions& options, const PlannedMachine& machine,
                              comm::Communicator& communicator) {
  RunOptions asked = options;
  // A preset's shape is all that a plan needs of it.
  if (checkpoint::type_of_input(asked.model.path) != std::filesystem::file_type::directory)
    asked.model.init = ModelInit::random;
  return prepare(asked, Purpose::train,
                 {.machine = machine,
                  .communicator = communicator,
                  .generate = {},
                  .eval_paths = asked.data.val,
                  .reads_data = !asked.data.train.empty()});
}

}  // namespace spillway::train
