// SPDX-License-Identifier: Apache-2.0
#include "train/engine.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <unistd.h>

#include "core/log.hpp"
#include "core/philox.hpp"
#include "data/deal.hpp"
#include "train/adafactor.hpp"
#include "train/adamw.hpp"
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

Engine::Engine(const Job& job, Runtime& runtime, std::unique_ptr<RankGroups> groups, EngineSwitches switches)
    : job_(job),
      device_(runtime.device),
      wait_at_once_(switches.wait_at_once),
      meters_(meters_of(runtime.device)),
      groups_(std::move(groups)),
      arena_(runtime.device, job.plan.ledger),
      queue_(runtime.device.create_compute_queue()),
      kernels_(switches.kernels ? std::move(*switches.kernels) : make_kernels(job, runtime.device, arena_, *queue_)),
      store_(std::move(switches.store)) {
  const TensorView batches = arena_.bytes(plan::entry::kBatches), copies = arena_.bytes(plan::entry::kBatchCopies);
  const std::size_t bytes = job_.facts.batch_bytes;
  for (std::size_t offset = 0; offset + bytes <= batches.bytes() && bytes > 0; offset += bytes)
    batches_.emplace_back(larger(job_.train_limits, job_.eval_limits), runtime.device, batches.data() + offset,
                          copies ? copies.data() + offset : nullptr);
  make_state(runtime);
  if (job_.purpose == Purpose::train) make_gradients(runtime);
  make_parameters();
  if (job_.purpose == Purpose::train) {
    make_instruments(runtime);
    make_snapshot();
    make_training(runtime);
  }
  if (job_.eval_limits.sequences > 0) make_evaluation(runtime);
}

std::unique_ptr<Engine> make_engine(const Job& job, Runtime& runtime, EngineSwitches switches) {
  auto groups = std::make_unique<RankGroups>(job.zero, runtime.communicator);
  std::unique_ptr<Engine> engine;
  // A rank whose memory, drive or folder refuses must not leave the others waiting in the first step.
  agree(runtime.communicator,
        [&] { engine = std::make_unique<Engine>(job, runtime, std::move(groups), std::move(switches)); });
  return engine;
}

void Engine::make_state(Runtime& runtime) {
  const RunOptions& o = job_.options;
  ShardStateOptions options{.placement = job_.plan.placement,
                            .whole_weights = !job_.gathers_weights(),
                            .extent_elements = job_.extent_elements,
                            .files = {.directories = job_.nvme_dirs,
                                      .folder = scratch_folder(job_.zero.rank),
                                      .kinds = {},
                                      .checksum = o.offload.checksum},
                            .link_offsets = job_.plan.placement.link_offsets(job_.facts),
                            .cpu_offsets = plan::cpu_ring_offsets(job_.facts, job_.plan.placement),
                            .wait_at_once = wait_at_once_};
  const bool nvme = std::ranges::any_of(kAllStateKinds, [this](StateKind kind) { return job_.on_nvme(kind); });
  // A name only: the memory store has no directories.
  if (options.files.directories.empty()) options.files.directories.emplace_back("memory");
  if (nvme) {
    if (!store_) store_ = offload::make_store(name_of(o.offload.store), {.queue_depth = o.offload.queue_depth});
    // Pinned once instead of at every transfer; where that is refused the store says so, and works without.
    const TensorView ring = arena_.bytes(plan::entry::kRing);
    (void)store_->register_buffer({ring.data(), ring.bytes()});
  }
  state_ = std::make_unique<ShardState>(job_.zero, *job_.state, std::move(options), arena_, store_.get(),
                                        *kernels_.optimizer, runtime.device);
  if (nvme) log::info(fmt::format("nvme tier: {}", store_->description()));
  if (state_->on_nvme(StateKind::weight))
    nvme_weights_ =
        std::make_unique<NvmeWeightReader>(*state_, arena_.bytes(plan::entry::kWeightStaging), runtime.device);
  if (job_.facts.gpu.present && job_.plan.placement.uses(plan::kWeightKind, plan::Tier::host))
    host_weights_ = std::make_unique<HostWeightReader>(*state_, runtime.device);
}

void Engine::make_gradients(Runtime& runtime) {
  std::int64_t piece = 0;
  for (int unit = 0; unit < job_.map->units(); ++unit) piece = std::max(piece, job_.map->shard_elements(unit));
  groups_->world().reserve(static_cast<std::size_t>(piece) * sizeof(float));
  if (const TensorView on_host = arena_.bytes(plan::entry::kGrad, plan::Tier::host)) {
    std::vector<TensorView> places(job_.units.size());
    std::size_t used = 0;
    for (int unit = 0; unit < job_.map->units(); ++unit) {
      const TensorView place(on_host.data() + used, job_.gradients.grad, {job_.zero.owned(unit).size()});
      if (job_.plan.placement.unit_bytes(job_.facts, plan::kGradientKind, unit, plan::Tier::host) == 0) continue;
      places[static_cast<std::size_t>(unit)] = place;
      used += place.bytes();
    }
    host_gradients_ = std::make_unique<HostGradients>(runtime.device, arena_.bytes(plan::entry::kGradientsOut),
                                                      std::move(places), wait_at_once_);
  }
  gradients_ = std::make_unique<Gradients>(
      job_.gradients, job_.plan.program.groups, groups_->world(), groups_->copies(), *kernels_.model, *queue_, clock_,
      arena_.bytes(plan::entry::kGradients), arena_.bytes(plan::entry::kGrad, plan::Tier::device),
      arena_.bytes(plan::entry::kGradientSums), host_gradients_.get());
}

void Engine::make_parameters() {
  TensorView gathered = arena_.bytes(plan::entry::kGathered);
  if (gathered)
    gathered = {gathered.data(), job_.dtype(), {static_cast<std::int64_t>(gathered.bytes() / size_of(job_.dtype()))}};
  std::vector<WeightReader*> readers(job_.units.size());
  const std::vector<bool> streamed = job_.plan.placement.streamed_units(job_.facts);
  for (std::size_t unit = 0; unit < readers.size(); ++unit) {
    if (!streamed[unit]) continue;
    const bool nvme =
        job_.plan.placement.unit_bytes(job_.facts, plan::kWeightKind, static_cast<int>(unit), plan::Tier::nvme) > 0;
    readers[unit] = nvme ? static_cast<WeightReader*>(nvme_weights_.get()) : host_weights_.get();
  }
  parameters_ = std::make_unique<Parameters>(job_.zero, *state_, groups_->group(), gathered, std::move(readers),
                                             gradients_.get(), job_.units, *queue_);
}

void Engine::make_instruments(Runtime& runtime) {
  const plan::StepProgram& program = job_.plan.program;
  names_.emplace(program, *job_.layout, job_.stages);
  // A wait for the update and one for the weights for each acquire, a batch and its losses for each micro-batch.
  const auto acquires =
      static_cast<std::size_t>(std::ranges::count(program.ops, plan::OpKind::acquire, &plan::Op::kind));
  const std::size_t micro_batches =
      static_cast<std::size_t>(program.groups) * static_cast<std::size_t>(program.group_size);
  stalls_.emplace(runtime.device, *queue_, 2 * (acquires + micro_batches), clock_);
  const ReportOptions& report = job_.options.report;
  if (report.trace)
    trace_ = std::make_unique<Trace>(runtime.device, program, *names_, job_.map->units(), report.trace_first,
                                     report.trace_last);
}

void Engine::make_snapshot() {
  const TensorView memory = arena_.bytes(plan::entry::kSnapshot);
  if (!memory) return;
  const auto factors = static_cast<std::int64_t>(snapshot_factor_bytes(job_));
  if (job_.adafactor)
    factor_copy_ = {reinterpret_cast<float*>(memory.data()), job_.adafactor->mean_bytes() / sizeof(float)};
  snapshot_ = std::make_unique<StateSnapshot>(*state_, snapshot_layout(job_),
                                              memory.flat(factors, memory.elements() - factors), device_);
}

void Engine::make_training(Runtime& runtime) {
  std::byte* memory = arena_.bytes(plan::entry::kActivations).data();
  const std::vector<std::size_t> stage_bytes = job_.plan.stage_bytes(job_.facts);
  if (job_.plan.host_stages > 0)
    residual_ring_ = std::make_unique<ResidualRing>(
        runtime.device, job_.plan.host_stage_bytes(job_.facts), job_.plan.program.group_size,
        arena_.bytes(plan::entry::kResidualRing), arena_.bytes(plan::entry::kHostResiduals), wait_at_once_);
  training_residuals_ = std::make_unique<TrainingResiduals>(stage_bytes, memory, residual_ring_.get());
  model::Carver scratch(memory +
                        static_cast<std::size_t>(job_.plan.program.group_size) * TrainingResiduals::bytes(stage_bytes));
  training_model_ = std::make_unique<model::T5Model>(
      job_.source.config, *job_.layout, *kernels_.model, *parameters_, *training_residuals_,
      model::carve_scratch(scratch, job_.source.config, job_.dtype(), job_.train_limits, true, job_.head_chunk()));

  const OptimizerOptions& o = job_.options.optimizer;
  const OptimizerParts parts{.zero = job_.zero,
                             .state = *state_,
                             .parameters = *parameters_,
                             .gradients = *gradients_,
                             .ops = *kernels_.optimizer,
                             .device = runtime.device,
                             .names = *names_,
                             .cpu_ops = kernels_.cpu_optimizer.get(),
                             .snapshot = snapshot_.get(),
                             .trace = trace_.get(),
                             .wait_at_once = wait_at_once_};
  if (job_.adafactor) {
    const TensorView means = arena_.bytes(plan::entry::kFactors), factors = arena_.bytes(plan::entry::kStepFactors);
    const std::size_t sum_bytes = Adafactor::sum_bytes(job_.zero, job_.units);
    const std::span<std::byte> on_device(factors.data(), factors.bytes());
    job_.adafactor->bind({means.data(), means.bytes()}, on_device.subspan(sum_bytes));
    optimizer_ = std::make_unique<Adafactor>(parts, *job_.layout,
                                             kernels::AdafactorSettings{.clip_threshold = o.clip_threshold,
                                                                        .scale_parameter = o.scale_parameter,
                                                                        .relative_step = o.relative_step,
                                                                        .warmup_init = o.warmup_init},
                                             o.weight_decay, *job_.adafactor, on_device.first(sum_bytes),
                                             groups_->world(), job_.units);
  } else {
    optimizer_ =
        std::make_unique<AdamW>(parts, *job_.layout, AdamWSettings{o.betas[0], o.betas[1], o.eps, o.weight_decay});
  }
  executor_ = std::make_unique<StepExecutor>(job_.plan.program, job_.zero, groups_->world(), *training_model_,
                                             *kernels_.optimizer, *queue_, *parameters_, *gradients_, *optimizer_,
                                             StepInstruments{clock_, *stalls_, *names_, trace_.get()},
                                             norm_sums(job_, arena_), residual_ring_.get(), wait_at_once_);
}

void Engine::make_evaluation(Runtime& runtime) {
  std::byte* memory = arena_.bytes(plan::entry::kActivations).data();
  const std::vector<std::size_t> stage_bytes = job_.inference_stage_bytes();
  inference_residuals_ = std::make_unique<InferenceResiduals>(job_.stages, stage_bytes, memory);
  model::Carver scratch(memory + InferenceResiduals::bytes(job_.stages, stage_bytes));
  inference_model_ = std::make_unique<model::T5Model>(
      job_.source.config, *job_.layout, *kernels_.model, *parameters_, *inference_residuals_,
      model::carve_scratch(scratch, job_.source.config, job_.dtype(), job_.eval_limits, false, job_.head_chunk()));
  if (job_.generation.items == 0) return;
  model::Carver caches(arena_.bytes(plan::entry::kGeneration).data());
  model::Carver lists(arena_.bytes(plan::entry::kGenerationLists).data());
  generator_ = std::make_unique<model::Generator>(
      runtime.device, job_.source.config, *job_.layout, *inference_model_, *kernels_.model, *kernels_.generation,
      *parameters_, model::carve_generation(caches, lists, job_.source.config, job_.dtype(), job_.generation),
      !job_.gathers_weights());
}

/// This rank's micro-batches of one global batch.
class Engine::StepBatches : public MicroBatchSource {
 public:
  /// \param gradient_scale  what a token's loss counts
  StepBatches(Engine& engine, const std::vector<std::int64_t>& samples, double gradient_scale, std::int64_t data_step)
      : engine_(engine),
        samples_(samples),
        gradient_scale_(static_cast<float>(gradient_scale)),
        dropout_key_(mix_key(engine.job_.options.train.seed, static_cast<std::uint64_t>(data_step))) {
    const StepClock::Span span(engine.clock_, Activity::data);
    const Job& job = engine.job_;
    const data::Examples& examples = *job.train_examples;
    std::vector<std::int64_t> lengths;
    for (const std::int64_t sample : samples)
      lengths.push_back(static_cast<std::int64_t>(examples.source(sample).size() + examples.target(sample).size()));
    mine_ = data::deal(lengths, job.map->ranks(), job.micro_batches)[static_cast<std::size_t>(job.zero.rank)];
  }

  model::MicroBatch pack(int micro_batch, int slot) override {
    std::vector<BatchItem> items;
    if (micro_batch < engine_.job_.micro_batches)
      for (const std::int32_t index : mine_[static_cast<std::size_t>(micro_batch)])
        items.push_back({.example = samples_[static_cast<std::size_t>(index)], .stream = index});
    if (items.empty()) return {};
    model::MicroBatch batch = memory(slot).pack(*engine_.queue_, *engine_.job_.train_examples, items,
                                                engine_.job_.source.config.decoder_start_token_id, &*engine_.stalls_);
    batch.gradient_scale = gradient_scale_;
    batch.dropout_key = dropout_key_;
    return batch;
  }
  void fetch_losses(int slot) override {
    const StallClock::Span stall(*engine_.stalls_, Activity::d2h);
    memory(slot).fetch_losses(*engine_.queue_);
  }
  std::vector<double> losses(int slot) const override { return memory(slot).sample_losses(); }

 private:
  [[nodiscard]] BatchMemory& memory(int slot) const { return engine_.batches_[static_cast<std::size_t>(slot)]; }

  Engine& engine_;
  const std::vector<std::int64_t>& samples_;
  float gradient_scale_;
  std::uint64_t dropout_key_;
  std::vector<std::vector<std::int32_t>> mine_;  // of each micro-batch
};

StepResult Engine::step(const std::vector<std::int64_t>& samples, std::int64_t tokens, std::int64_t data_step,
                        double learning_rate, std::int64_t optimizer_step, std::optional<double> loss_scale) {
  if (trace_) trace_->begin_step(data_step + 1);
  StepBatches batches(*this, samples, loss_scale.value_or(1.0) / static_cast<double>(tokens), data_step);
  StepInput input;
  input.batches = &batches;
  input.pass = job_.pass;
  input.pass.first_kept_stage = job_.plan.first_kept_stage;
  input.learning_rate = learning_rate;
  input.optimizer_step = optimizer_step;
  input.loss_scale = loss_scale;
  input.max_grad_norm = job_.options.train.max_grad_norm;
  input.rounding_key = mix_key(job_.options.train.seed, static_cast<std::uint64_t>(optimizer_step));
  const StepResult result = executor_->run(input);
  if (trace_) trace_->end_step();
  return result;
}

std::vector<double> Engine::losses(const std::vector<std::int64_t>& samples) {
  std::vector<BatchItem> items;
  for (const std::int64_t sample : samples) items.push_back({.example = sample, .stream = 0});
  model::MicroBatch batch;
  if (!items.empty())
    batch = batches_[0].pack(*queue_, *job_.eval_examples, items, job_.source.config.decoder_start_token_id);
  const model::PassOptions pass{.label_smoothing = 0.0F};
  for (int stage = 0; stage < static_cast<int>(job_.stages.size()); ++stage) {
    const int unit = job_.stages[static_cast<std::size_t>(stage)].unit;
    if (!persistent(unit)) parameters_->acquire(unit);
    if (stage + 1 < static_cast<int>(job_.stages.size()))
      if (const int next = job_.stages[static_cast<std::size_t>(stage) + 1].unit; !persistent(next))
        parameters_->prefetch(next);
    if (!items.empty()) inference_model_->forward(*queue_, stage, batch, pass);
    if (!persistent(unit)) parameters_->release(unit);
  }
  if (!items.empty()) batches_[0].fetch_losses(*queue_);
  queue_->synchronize();
  return items.empty() ? std::vector<double>{} : batches_[0].sample_losses();
}

std::vector<std::vector<model::Hypothesis>> Engine::generate(
    const std::vector<std::span<const std::int32_t>>& sources) {
  const model::MicroBatch batch = batches_[0].pack_sources(*queue_, sources);
  const auto all_done = [this](bool done) {
    if (!job_.zero.sharded()) return done;  // nobody gathers, nobody waits
    const std::array<double, 1> open = {done ? 0.0 : 1.0};
    return comm::ordered_sum(groups_->world(), open)[0] == 0.0;
  };
  return generator_->generate(*queue_, batch, job_.generation.options, all_done);
}

void Engine::begin_evaluation() {
  finish_update();
  for (int unit = 0; unit < job_.map->units(); ++unit)
    if (persistent(unit)) parameters_->acquire(unit);
}

void Engine::end_evaluation() {
  for (int unit = 0; unit < job_.map->units(); ++unit)
    if (persistent(unit)) parameters_->release(unit);
}

void Engine::weights_changed() {
  state_->finish_writes();
  for (int unit = 0; unit < job_.map->units(); ++unit) parameters_->updating(unit, {});
}

std::span<const float> Engine::begin_snapshot() {
  optimizer_->start_all();
  StateSnapshot::Settled settled{.updated = {}, .back = state_->back_on_host(), .written = optimizer_->written_back()};
  for (int unit = 0; unit < job_.map->units(); ++unit) settled.updated.push_back(parameters_->updated(unit));
  snapshot_->begin(std::move(settled));
  // Small, and the update's first part, which this thread waited for: there is nothing to wait for.
  std::size_t copied = 0;
  if (job_.adafactor)
    for (const std::string& kind : job_.adafactor->kinds()) {
      const std::span<const float> values = job_.adafactor->values(kind);
      std::ranges::copy(values, factor_copy_.begin() + static_cast<std::ptrdiff_t>(copied));
      copied += values.size();
    }
  return factor_copy_.first(copied);
}

void Engine::finish_update() {
  if (optimizer_) optimizer_->finish();
}

}  // namespace spillway::train
