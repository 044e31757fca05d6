// SPDX-License-Identifier: Apache-2.0
#include "train/job.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include <fmt/format.h>

#include "core/error.hpp"
#include "core/log.hpp"
#include "train/agreement.hpp"
#include "train/batches.hpp"
#include "train/budgets.hpp"
#include "train/generation_settings.hpp"
#include "train/job_facts.hpp"
#include "train/machine.hpp"
#include "train/schedule.hpp"

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

void read_data(Job& job, Runtime& runtime, const std::vector<std::string>& eval_paths) {
  const RunOptions& o = job.options;
  agree(runtime.communicator, [&] {
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

void size_batches(Job& job, int ranks, const GenerateLimits& generate) {
  const RunOptions& o = job.options;
  if (job.purpose == Purpose::train) {
    const std::int64_t per_device = o.train.per_device_train_batch_size;
    const std::int64_t accumulated = per_device * o.train.gradient_accumulation_steps * ranks;
    job.global_batch_size = o.train.global_batch_size > 0 ? o.train.global_batch_size : accumulated;
    // A global batch of its own decides how many micro-batches of at most per_device samples each rank runs.
    job.micro_batches = static_cast<int>((job.global_batch_size + per_device * ranks - 1) / (per_device * ranks));
    job.gradients.micro_batches = job.micro_batches;
    const std::int64_t slots = static_cast<std::int64_t>(job.micro_batches) * ranks;
    job.train_limits = batch_limits(*job.train_examples, (job.global_batch_size + slots - 1) / slots);
    const std::int64_t steps_per_epoch =
        (job.train_examples->size() + job.global_batch_size - 1) / job.global_batch_size;
    job.total_steps =
        o.train.max_steps > 0
            ? o.train.max_steps
            : static_cast<std::int64_t>(std::ceil(o.train.num_train_epochs * static_cast<double>(steps_per_epoch)));
    job.pass = {.dropout = static_cast<float>(o.model.dropout_rate < 0.0 ? job.source.config.dropout_rate
                                                                         : o.model.dropout_rate),
                .label_smoothing = static_cast<float>(o.train.label_smoothing_factor)};
  }
  if (job.eval_examples) {
    job.eval_limits = batch_limits(*job.eval_examples, o.eval.per_device_eval_batch_size);
    if (o.eval.predict_with_generate) job.generation.items = job.eval_limits.sequences;
  } else if (job.purpose == Purpose::generate) {
    job.generation.items = generate.batch;
    job.eval_limits = {.sequences = generate.batch,
                       .source_rows = generate.batch * generate.longest_source,
                       .target_rows = generate.batch};
  }
  job.generation.source_rows = job.eval_limits.source_rows;
  if (job.generation.items == 0) return;
  EvalOptions eval = o.eval;
  if (job.purpose != Purpose::generate) eval.num_return_sequences = 1;  // metrics are about the best one
  job.generation.options = generation_options(eval, job.source);
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

/// Who holds what, and in which formats.
void lay_out_state(Job& job, const Runtime& runtime) {
  const RunOptions& o = job.options;
  const int ranks = job.map->ranks();
  const comm::NodeLayout groups =
      o.zero.shard_group == ShardGroup::node ? runtime.nodes : comm::NodeLayout::filled(1, ranks);
  job.zero = Zero::over(*job.map, o.zero.stage, runtime.communicator.rank(), groups);
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
  if (job.on_gpu && weight_tier == TierChoice::host)
    throw ConfigError(
        "offload.weight = \"host\" with a GPU needs weights that are streamed to it, which this version does not have "
        "yet; set offload.weight = \"device\", or \"nvme\"");
  if (job.on_gpu && offload.optimizer_on == OptimizerPlace::cpu)
    throw ConfigError(
        "offload.optimizer_on = \"cpu\" with a GPU is not in this version yet: the GPU updates state wherever it lies; "
        "leave it out");
  const bool training = job.purpose == Purpose::train;
  if (training) check_optimizer(o);
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

/// What a job that does not fit could do with. The job is not to be used any more.
std::string largest_batch_note(Job& job, const plan::Budgets& budgets, int ranks) {
  std::int64_t& batch = job.options.train.per_device_train_batch_size;
  const auto fits = [&](std::int64_t samples) {
    batch = samples;
    size_batches(job, ranks, {});
    try {
      (void)plan::make_plan(facts_of(job), budgets);
      return true;
    } catch (const PlanError&) {
      return false;
    }
  };
  std::int64_t fit = 0, too_many = batch;
  while (too_many - fit > 1) {
    const std::int64_t middle = fit + (too_many - fit) / 2;
    (fits(middle) ? fit : too_many) = middle;
  }
  if (fit == 0) return "not even train.per_device_train_batch_size = 1 fits\n";
  return fmt::format("the largest train.per_device_train_batch_size that fits is {}\n", fit);
}

}  // namespace

bool Job::gathers_weights() const { return facts.gathers_weights || on_nvme(StateKind::weight); }

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

std::unique_ptr<Job> prepare_job(const RunOptions& options, Purpose purpose, Runtime& runtime,
                                 const GenerateLimits& generate, const std::vector<std::string>& eval_paths) {
  auto job = std::make_unique<Job>();
  job->options = options;
  job->purpose = purpose;
  job->on_gpu = !runtime.device.is_host();
  comm::Communicator& communicator = runtime.communicator;
  const int ranks = communicator.size();
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
  job->map = std::make_unique<ShardMap>(job->layout->tensors(), ranks);
  agree(communicator, [&] { lay_out_state(*job, runtime); });
  job->stages = model::t5_stages(job->source.config, *job->layout);
  job->thread_placement = place_compute_threads(communicator);
  job->threads = job->thread_placement.threads;
  job->nvme_dirs = nvme_directories(options.offload);
  job->extent_elements = extent_elements(*job);

  if (purpose != Purpose::generate) read_data(*job, runtime, eval_paths);
  else agree(communicator, [&] { job->tokenizer = open_tokenizer(job->source); });
  agree(communicator, [&] { size_batches(*job, ranks, generate); });
  plan::Budgets budgets;
  agree(communicator, [&] {
    job->facts = facts_of(*job);
    budgets = budgets_of(*job, runtime);
  });
  agree_on_budgets(budgets, job->facts, communicator);
  agree(communicator, [&] {
    try {
      job->plan = plan::make_plan(job->facts, budgets);
    } catch (const PlanError& error) {
      if (purpose != Purpose::train) throw;
      throw PlanError(fmt::format("{}{}", error.what(), largest_batch_note(*job, budgets, ranks)));
    }
  });
  return job;
}

}  // namespace spillway::train
