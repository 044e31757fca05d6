// SPDX-License-Identifier: Apache-2.0
#include "train/engine.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include "core/log.hpp"
#include "core/philox.hpp"
#include "data/deal.hpp"
#include "train/agreement.hpp"

namespace spillway::train {
namespace {

/// A name of its own for each job and rank in the offload folders.
std::string scratch_folder(int rank) {
  const char* job = std::getenv("SLURM_JOB_ID");
  return fmt::format("{}{}-{}-rank-{:05}", kScratchPrefix, job != nullptr ? job : "local", getpid(), rank);
}

std::string name_of(StoreChoice store) {
  switch (store) {
    case StoreChoice::automatic: return "auto";
    case StoreChoice::uring: return "uring";
    case StoreChoice::posix: return "posix";
    case StoreChoice::memory: return "memory";
  }
  return "auto";
}

}  // namespace

Engine::Engine(const Job& job, Runtime& runtime, EngineSwitches switches)
    : job_(job),
      communicator_(runtime.communicator),
      arena_(runtime.device, job.plan.ledger),
      pool_(kernels::cpu::make_thread_pool(job.thread_placement)),
      model_ops_(kernels::cpu::make_model_ops(pool_)),
      optimizer_ops_(kernels::cpu::make_optimizer_ops(pool_)),
      generation_ops_(kernels::cpu::make_generation_ops(pool_)),
      queue_(runtime.device.create_compute_queue()),
      store_(std::move(switches.store)) {
  // A rank whose drive or folder refuses must not leave the others waiting in the first step.
  agree(communicator_, [&] { build(runtime, switches.wait_at_once); });
}

void Engine::build(Runtime& runtime, bool wait_at_once) {
  const plan::JobFacts& facts = job_.facts;
  const TensorView batches = arena_.bytes(plan::entry::kBatches);
  for (std::size_t offset = 0; offset + facts.batch_bytes <= batches.bytes() && facts.batch_bytes > 0;
       offset += facts.batch_bytes)
    batches_.emplace_back(larger(job_.train_limits, job_.eval_limits), batches.data() + offset);
  if (job_.purpose == Purpose::train) {
    std::int64_t piece = 0;
    for (int unit = 0; unit < job_.map->units(); ++unit) piece = std::max(piece, job_.map->shard_elements(unit));
    communicator_.reserve(static_cast<std::size_t>(piece) * sizeof(float));
    const std::int64_t buffers = job_.map->unit_elements(0) + plan::kGradientSlots * job_.zero.largest_unit();
    const auto shards = static_cast<std::int64_t>(job_.plan.ledger.bytes(plan::entry::kGradientShards) / sizeof(float));
    gradients_ = std::make_unique<Gradients>(
        job_.zero, communicator_, *model_ops_, *queue_, clock_, arena_.floats(plan::entry::kGradients, buffers),
        arena_.floats(plan::entry::kGradientShards, shards), job_.plan.program.groups > 1);
  }
  const std::int64_t gathered = job_.map->unit_elements(0) + plan::kGatherSlots * job_.zero.largest_unit();
  parameters_ = std::make_unique<Parameters>(
      job_.zero, communicator_, arena_.floats(plan::entry::kWeights, job_.zero.owned_elements()),
      job_.zero.sharded() ? arena_.floats(plan::entry::kGathered, gathered) : TensorView{}, gradients_.get());
  if (job_.purpose == Purpose::train) make_training(runtime, wait_at_once);
  if (job_.eval_limits.sequences > 0) make_evaluation();
}

std::unique_ptr<Engine> make_engine(const Job& job, Runtime& runtime) {
  std::unique_ptr<Engine> engine;
  agree(runtime.communicator, [&] { engine = std::make_unique<Engine>(job, runtime); });
  return engine;
}

void Engine::make_training(Runtime& runtime, bool wait_at_once) {
  const RunOptions& o = job_.options;
  std::byte* memory = arena_.bytes(plan::entry::kActivations).data();
  training_residuals_ = std::make_unique<TrainingResiduals>(job_.training_stage_bytes(), memory);
  model::Carver scratch(memory + static_cast<std::size_t>(job_.plan.program.group_size) * job_.facts.residual_bytes);
  training_model_ = std::make_unique<model::T5Model>(
      job_.source.config, *job_.layout, *model_ops_, *parameters_, *training_residuals_,
      model::carve_scratch(scratch, job_.source.config, job_.train_limits, true));

  if (!job_.thread_placement.text.empty()) log::info(job_.thread_placement.text);
  const bool nvme = job_.plan.exp_avg == plan::Tier::nvme || job_.plan.exp_avg_sq == plan::Tier::nvme;
  if (nvme && !store_) store_ = offload::make_store(name_of(o.offload.store), {.queue_depth = o.offload.queue_depth});
  if (nvme) {
    log::info(fmt::format("nvme tier: {}", store_->description()));
    // Pinned once instead of at every transfer; where that is refused the store says so, and works without.
    const TensorView ring = arena_.bytes(plan::entry::kRing);
    (void)store_->register_buffer({ring.data(), ring.bytes()});
  }
  std::vector<std::string> dirs = job_.nvme_dirs;
  if (dirs.empty()) dirs.emplace_back("memory");  // a name only: the memory store has no directories
  optimizer_ = std::make_unique<Optimizer>(
      job_.zero, *job_.layout,
      Optimizer::Settings{o.optimizer.betas[0], o.optimizer.betas[1], o.optimizer.eps, o.optimizer.weight_decay},
      OptimizerStateOptions{.tiers = {job_.plan.exp_avg, job_.plan.exp_avg_sq},
                            .extent_elements = job_.extent_elements,
                            .files = {.directories = dirs,
                                      .folder = scratch_folder(job_.zero.rank),
                                      .kinds = {},
                                      .checksum = o.offload.checksum},
                            .wait_at_once = wait_at_once},
      arena_, store_.get(), *optimizer_ops_, runtime.device, *parameters_, *gradients_);
  executor_ =
      std::make_unique<StepExecutor>(job_.plan.program, job_.zero, communicator_, *training_model_, *optimizer_ops_,
                                     *queue_, *parameters_, *gradients_, *optimizer_, clock_, wait_at_once);
}

void Engine::make_evaluation() {
  std::byte* memory = arena_.bytes(plan::entry::kActivations).data();
  const std::vector<std::size_t> stage_bytes = job_.inference_stage_bytes();
  inference_residuals_ = std::make_unique<InferenceResiduals>(job_.stages, stage_bytes, memory);
  model::Carver scratch(memory + InferenceResiduals::bytes(job_.stages, stage_bytes));
  inference_model_ = std::make_unique<model::T5Model>(
      job_.source.config, *job_.layout, *model_ops_, *parameters_, *inference_residuals_,
      model::carve_scratch(scratch, job_.source.config, job_.eval_limits, false));
  if (job_.generation.items == 0) return;
  model::Carver caches(arena_.bytes(plan::entry::kGeneration).data());
  generator_ = std::make_unique<model::Generator>(job_.source.config, *job_.layout, *inference_model_, *model_ops_,
                                                  *generation_ops_, *parameters_,
                                                  model::carve_generation(caches, job_.source.config, job_.generation));
}

StepResult Engine::step(const std::vector<std::int64_t>& samples, std::int64_t tokens, std::int64_t data_step,
                        double learning_rate, std::int64_t optimizer_step) {
  const data::Examples& examples = *job_.train_examples;
  std::vector<std::vector<std::int32_t>> mine;  // of each micro-batch
  {
    const StepClock::Span span(clock_, Activity::data);
    std::vector<std::int64_t> lengths;
    for (const std::int64_t sample : samples)
      lengths.push_back(static_cast<std::int64_t>(examples.source(sample).size() + examples.target(sample).size()));
    mine = data::deal(lengths, job_.map->ranks(), job_.micro_batches)[static_cast<std::size_t>(job_.zero.rank)];
  }

  StepInput input;
  input.pass = job_.pass;
  input.learning_rate = learning_rate;
  input.optimizer_step = optimizer_step;
  input.max_grad_norm = job_.options.train.max_grad_norm;
  input.pack = [&](int micro_batch, int slot) -> model::MicroBatch {
    std::vector<BatchItem> items;
    if (micro_batch < job_.micro_batches)
      for (const std::int32_t index : mine[static_cast<std::size_t>(micro_batch)])
        items.push_back({.example = samples[static_cast<std::size_t>(index)], .stream = index});
    if (items.empty()) return {};
    model::MicroBatch batch =
        batches_[static_cast<std::size_t>(slot)].pack(examples, items, job_.source.config.decoder_start_token_id);
    batch.gradient_scale = static_cast<float>(1.0 / static_cast<double>(tokens));
    batch.dropout_key = mix_key(job_.options.train.seed, static_cast<std::uint64_t>(data_step));
    return batch;
  };
  return executor_->run(input);
}

std::vector<double> Engine::losses(const std::vector<std::int64_t>& samples) {
  std::vector<BatchItem> items;
  for (const std::int64_t sample : samples) items.push_back({.example = sample, .stream = 0});
  model::MicroBatch batch;
  if (!items.empty()) batch = batches_[0].pack(*job_.eval_examples, items, job_.source.config.decoder_start_token_id);
  const model::PassOptions pass{.label_smoothing = 0.0F, .keep_activations = false};
  for (int stage = 0; stage < static_cast<int>(job_.stages.size()); ++stage) {
    const int unit = job_.stages[static_cast<std::size_t>(stage)].unit;
    if (unit != 0) parameters_->acquire(unit);
    if (stage + 1 < static_cast<int>(job_.stages.size()))
      if (const int next = job_.stages[static_cast<std::size_t>(stage) + 1].unit; next != 0)
        parameters_->prefetch(next);
    if (!items.empty()) inference_model_->forward(*queue_, stage, batch, pass);
    if (unit != 0) parameters_->release(unit);
  }
  queue_->synchronize();
  return items.empty() ? std::vector<double>{} : sample_losses(batch);
}

std::vector<std::vector<model::Hypothesis>> Engine::generate(
    const std::vector<std::span<const std::int32_t>>& sources) {
  const model::MicroBatch batch = batches_[0].pack_sources(sources);
  const auto all_done = [this](bool done) {
    if (!job_.zero.sharded()) return done;
    const std::array<double, 1> open = {done ? 0.0 : 1.0};
    return comm::ordered_sum(communicator_, open)[0] == 0.0;
  };
  return generator_->generate(*queue_, batch, job_.generation.options, all_done);
}

void Engine::begin_evaluation() {
  finish_update();
  parameters_->acquire(0);
}

void Engine::end_evaluation() { parameters_->release(0); }

void Engine::finish_update() {
  if (optimizer_) optimizer_->finish();
}

}  // namespace spillway::train
