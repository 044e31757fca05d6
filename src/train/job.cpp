// SPDX-License-Identifier: Apache-2.0
#include "train/job.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include <fmt/format.h>

#include "comm/mpi_communicator.hpp"
#include "core/error.hpp"
#include "core/log.hpp"
#include "kernels/cpu/attention_workspace.hpp"
#include "offload/state_ring.hpp"
#include "train/agreement.hpp"
#include "train/batches.hpp"
#include "train/machine.hpp"
#include "train/optimizer.hpp"
#include "train/residuals.hpp"
#include "train/schedule.hpp"

namespace spillway::train {
namespace {

// A checkpoint is read through two buffers and written through one.
constexpr std::size_t kStagingBytes = 2 * (std::size_t{4} << 20);
// Measured: code and tables of HDF5, MPI and the C library that nothing has touched yet when the plan is made.
constexpr std::size_t kLaterBytes = std::size_t{8} << 20;
// Measured: panels that OpenBLAS packs for one thread of the pool.
constexpr std::size_t kPanelBytes = std::size_t{1} << 20;

data::Examples read_examples(const DataOptions& data, const std::string& path, std::int64_t max_samples, bool keep_text,
                             const data::Tokenizer& tokenizer, std::int64_t vocabulary) {
  data::Examples examples = data::Examples::read({.path = path,
                                                  .source_key = data.source_key,
                                                  .target_key = data.target_key,
                                                  .source_prefix = data.source_prefix,
                                                  .max_source_length = data.max_source_length,
                                                  .max_target_length = data.max_target_length,
                                                  .max_samples = max_samples,
                                                  .keep_text = keep_text},
                                                 tokenizer);
  for (std::int64_t i = 0; i < examples.size(); ++i)
    for (const auto ids : {examples.source(i), examples.target(i)})
      for (const std::int32_t id : ids)
        if (id >= vocabulary)
          throw DataError(fmt::format("{}: pair {}: the tokenizer gives id {}, but the model's vocab_size is {}", path,
                                      i + 1, id, vocabulary));
  return examples;
}

std::string truncation_note(const data::Examples& examples, const DataOptions& data) {
  if (examples.truncated_sources() + examples.truncated_targets() == 0) return {};
  return fmt::format("; {} sources cut to {} tokens, {} targets to {}", examples.truncated_sources(),
                     data.max_source_length, examples.truncated_targets(), data.max_target_length);
}

void read_data(Job& job, Runtime& runtime, const std::string& eval_path) {
  const RunOptions& o = job.options;
  agree(runtime.communicator, [&] {
    job.tokenizer = open_tokenizer(job.source);
    if (job.purpose == Purpose::train) {
      if (o.data.train.empty())
        throw ConfigError("data.train is not set: name BASE of BASE.source and BASE.target, or a .jsonl file");
      job.train_examples = read_examples(o.data, o.data.train, o.data.max_train_samples, false, *job.tokenizer,
                                         job.source.config.vocab_size);
    }
    if (!eval_path.empty())
      job.eval_examples =
          read_examples(o.data, eval_path, o.data.max_eval_samples, true, *job.tokenizer, job.source.config.vocab_size);
  });
  if (job.train_examples)
    log::info(fmt::format("{}: {} pairs{}", o.data.train, job.train_examples->size(),
                          truncation_note(*job.train_examples, o.data)));
  if (job.eval_examples)
    log::info(fmt::format("{}: {} pairs{}", eval_path, job.eval_examples->size(),
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
    const std::int64_t slots = static_cast<std::int64_t>(job.micro_batches) * ranks;
    job.train_limits = batch_limits(*job.train_examples, (job.global_batch_size + slots - 1) / slots);
    const std::int64_t steps_per_epoch =
        (job.train_examples->size() + job.global_batch_size - 1) / job.global_batch_size;
    job.total_steps =
        o.train.max_steps > 0
            ? o.train.max_steps
            : static_cast<std::int64_t>(std::ceil(o.train.num_train_epochs * static_cast<double>(steps_per_epoch)));
    job.keep_activations = o.train.gradient_checkpointing != GradientCheckpointing::on;
    job.pass = {.dropout = static_cast<float>(o.model.dropout_rate < 0.0 ? job.source.config.dropout_rate
                                                                         : o.model.dropout_rate),
                .label_smoothing = static_cast<float>(o.train.label_smoothing_factor),
                .keep_activations = job.keep_activations};
  }
  job.generation.options = generation_options(o.eval, job.source);
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
}

/// Parameters of an extent: [offload].extent_size of fp32, but no more than the largest unit has.
std::int64_t extent_elements(const Job& job) {
  std::int64_t largest = 0;
  for (int unit = 0; unit < job.map->units(); ++unit) largest = std::max(largest, job.zero.owned(unit).size());
  const auto asked = static_cast<std::int64_t>(job.options.offload.extent_size / sizeof(float));
  return std::min(largest, std::max<std::int64_t>(1, asked / kShardAlignment) * kShardAlignment);
}

/// What the kernels allocate for themselves at first use.
std::size_t workspace_bytes(const Job& job) {
  const model::T5Config& config = job.source.config;
  const DataOptions& data = job.options.data;
  const model::BatchLimits limits = larger(job.train_limits, job.eval_limits);
  const std::int64_t generated = job.generation.items > 0 ? job.generation.options.max_length : 0;
  const std::int64_t longest = job.purpose == Purpose::generate
                                   ? limits.source_rows / std::max<std::int64_t>(limits.sequences, 1)
                                   : std::max(data.max_source_length, data.max_target_length);
  return static_cast<std::size_t>(job.threads) * kPanelBytes +
         kernels::cpu::attention_workspace_bytes({.longest_queries = longest,
                                                  .longest_keys = std::max(longest, generated),
                                                  .sequences = limits.sequences,
                                                  .heads = config.num_heads,
                                                  .buckets = config.relative_attention_num_buckets,
                                                  .threads = job.threads});
}

std::optional<plan::Tier> wish_of(TierChoice own, TierChoice placement) {
  const TierChoice choice = own != TierChoice::automatic ? own : placement;
  switch (choice) {
    case TierChoice::automatic: return std::nullopt;
    case TierChoice::device: return plan::Tier::device;
    case TierChoice::host: return plan::Tier::host;
    case TierChoice::nvme: return plan::Tier::nvme;
  }
  return std::nullopt;
}

plan::JobFacts facts_of(const Job& job) {
  const model::T5Config& config = job.source.config;
  const bool training = job.purpose == Purpose::train;
  plan::JobFacts facts;
  for (const model::Stage& stage : job.stages) facts.program.stage_units.push_back(stage.unit);
  facts.program.units = job.map->units();
  facts.program.micro_batches = job.micro_batches;
  facts.program.group_size = job.micro_batches;
  facts.sharded_weights = job.zero.sharded();
  facts.training = training;
  std::int64_t largest_shard = 0;
  for (int unit = 0; unit < job.map->units(); ++unit) {
    facts.units.push_back({.elements = job.map->unit_elements(unit), .owned = job.zero.owned(unit).size()});
    largest_shard = std::max(largest_shard, job.map->shard_elements(unit));
  }
  facts.program_bytes = resident_bytes();
  facts.workspace_bytes = workspace_bytes(job);
  if (training) {
    facts.residual_bytes = TrainingResiduals::bytes(job.training_stage_bytes());
    model::Carver scratch;
    (void)model::carve_scratch(scratch, config, job.train_limits, true);
    facts.scratch_bytes = scratch.bytes();
    facts.reduce_bytes =
        comm::mpi_scratch_bytes(static_cast<std::size_t>(largest_shard) * sizeof(float), job.map->ranks());
    facts.staging_bytes = kStagingBytes;
    const std::size_t extent = static_cast<std::size_t>(job.extent_elements) * sizeof(float);
    facts.ring_bytes_per_kind = offload::StateRing::bytes_needed(std::span(&extent, 1), Optimizer::kRingSlots, 4096);
    facts.exp_avg = wish_of(job.options.offload.exp_avg, job.options.offload.placement);
    facts.exp_avg_sq = wish_of(job.options.offload.exp_avg_sq, job.options.offload.placement);
  }
  if (job.eval_limits.sequences > 0) {
    model::Carver scratch;
    (void)model::carve_scratch(scratch, config, job.eval_limits, false);
    facts.evaluation_bytes = InferenceResiduals::bytes(job.stages, job.inference_stage_bytes()) + scratch.bytes();
  }
  if (job.generation.items > 0) {
    model::Carver caches;
    (void)model::carve_generation(caches, config, job.generation);
    facts.generation_bytes = caches.bytes();
  }
  facts.batch_bytes = BatchMemory::bytes(larger(job.train_limits, job.eval_limits));
  return facts;
}

plan::Budgets budgets_of(const Job& job, Runtime& runtime) {
  const MemoryOptions& memory = job.options.memory;
  const auto ranks = static_cast<std::size_t>(runtime.local_size);
  constexpr double kMargin = 0.05;  // for what the kernel and other processes take meanwhile
  plan::Budgets budgets;
  if (memory.device) budgets.device = static_cast<std::size_t>(*memory.device);
  const std::size_t available = available_memory_bytes();
  // What this rank holds already is in the ledger too, so it is added to what is free.
  const auto free =
      static_cast<std::size_t>(static_cast<double>(available) * (1.0 - kMargin)) / ranks + resident_bytes();
  budgets.host = memory.host ? std::min(static_cast<std::size_t>(*memory.host) / ranks, free) : free;
  const std::string share = ranks > 1 ? fmt::format(" (1/{} of it for each rank of this node)", ranks) : "";
  budgets.host_source = memory.host && static_cast<std::size_t>(*memory.host) / ranks <= free
                            ? "memory.host" + share
                            : "free memory of this node less 5 %" + share;
  if (job.options.offload.store == StoreChoice::memory) {
    budgets.nvme = budgets.host;
    budgets.nvme_source = "offload.store = \"memory\"";
  } else if (job.nvme_dirs.empty()) {
    budgets.nvme_source = "set offload.nvme_dirs (SLURM_TMPDIR is not set)";
  } else {
    const std::size_t disk = free_disk_bytes(job.nvme_dirs);
    budgets.nvme = (memory.nvme ? std::min(static_cast<std::size_t>(*memory.nvme), disk) : disk) / ranks;
    budgets.nvme_source = memory.nvme && *memory.nvme <= disk ? "memory.nvme" : "free space of offload.nvme_dirs";
  }
  return budgets;
}

/// Every rank must come to the same placement: the least of what any of them has counts.
void agree_on_budgets(plan::Budgets& budgets, plan::JobFacts& facts, comm::Communicator& communicator) {
  const std::vector<double> mine = {static_cast<double>(budgets.host), static_cast<double>(budgets.nvme),
                                    static_cast<double>(facts.program_bytes),
                                    static_cast<double>(facts.workspace_bytes)};
  const std::vector<double> all = comm::all_gather_doubles(communicator, mine);
  for (std::size_t rank = 0; rank < all.size() / mine.size(); ++rank) {
    const std::span<const double> its = std::span(all).subspan(rank * mine.size(), mine.size());
    budgets.host = std::min(budgets.host, static_cast<std::size_t>(its[0]));
    budgets.nvme = std::min(budgets.nvme, static_cast<std::size_t>(its[1]));
    facts.program_bytes = std::max(facts.program_bytes, static_cast<std::size_t>(its[2]));
    facts.workspace_bytes = std::max(facts.workspace_bytes, static_cast<std::size_t>(its[3]));
  }
}

}  // namespace

std::vector<std::size_t> Job::training_stage_bytes() const {
  std::vector<std::size_t> bytes;
  for (const model::Stage& stage : stages)
    bytes.push_back(model::stage_bytes(stage, source.config, train_limits, true, keep_activations));
  return bytes;
}

std::vector<std::size_t> Job::inference_stage_bytes() const {
  std::vector<std::size_t> bytes;
  for (const model::Stage& stage : stages)
    bytes.push_back(model::stage_bytes(stage, source.config, eval_limits, false, false));
  return bytes;
}

std::string Job::checkpoint_dir() const {
  return options.checkpoint.dir.empty() ? options.train.output_dir + "/checkpoints" : options.checkpoint.dir;
}

std::vector<std::string> nvme_directories(const OffloadOptions& offload) {
  const char* scratch = std::getenv("SLURM_TMPDIR");
  if (offload.nvme_dirs.empty() && scratch != nullptr) return {scratch};
  return offload.nvme_dirs;
}

std::unique_ptr<Job> prepare_job(const RunOptions& options, Purpose purpose, Runtime& runtime,
                                 const GenerateLimits& generate, const std::string& eval_path) {
  auto job = std::make_unique<Job>();
  job->options = options;
  job->purpose = purpose;
  comm::Communicator& communicator = runtime.communicator;
  const int ranks = communicator.size();
  agree(communicator, [&] {
    if (purpose == Purpose::train) check_schedule(options.schedule, options.optimizer.learning_rate);
    job->source = open_model(options.model);
  });
  if (options.checkpoint.export_dtype == ExportDType::fp32) job->source.dtype = DType::f32;
  job->layout = std::make_unique<model::T5Layout>(job->source.config);
  job->map = std::make_unique<ShardMap>(job->layout->tensors(), ranks);
  job->zero = {.stage = options.zero.stage, .rank = communicator.rank(), .map = job->map.get()};
  job->stages = model::t5_stages(job->source.config, *job->layout);
  job->threads = compute_threads(communicator);
  job->nvme_dirs = nvme_directories(options.offload);
  job->extent_elements = extent_elements(*job);

  if (purpose != Purpose::generate) read_data(*job, runtime, eval_path);
  else agree(communicator, [&] { job->tokenizer = open_tokenizer(job->source); });
  agree(communicator, [&] { size_batches(*job, ranks, generate); });
  plan::Budgets budgets;
  agree(communicator, [&] {
    job->facts = facts_of(*job);
    budgets = budgets_of(*job, runtime);
    if (job->train_examples)
      job->facts.data_bytes +=
          job->train_examples->bytes() + static_cast<std::size_t>(job->train_examples->size()) * sizeof(std::int64_t);
    if (job->eval_examples) job->facts.data_bytes += job->eval_examples->bytes();
    // The data are resident already.
    job->facts.program_bytes -= std::min(job->facts.program_bytes, job->facts.data_bytes);
    job->facts.program_bytes += kLaterBytes;
  });
  agree_on_budgets(budgets, job->facts, communicator);
  agree(communicator, [&] { job->plan = plan::make_plan(job->facts, budgets); });
  return job;
}

}  // namespace spillway::train
