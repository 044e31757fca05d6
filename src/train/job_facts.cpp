// SPDX-License-Identifier: Apache-2.0
#include "train/job_facts.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "comm/mpi_communicator.hpp"
#include "core/round_up.hpp"
#include "kernels/cpu/attention_workspace.hpp"
#include "kernels/cpu/few_rows_gemm.hpp"
#include "kernels/cpu/mixed_gemm.hpp"
#include "kernels/cpu/residual_norm.hpp"
#include "kernels/cpu/top_continuations.hpp"
#include "train/adafactor.hpp"
#include "train/batches.hpp"
#include "train/consistency.hpp"
#include "train/kernel_set.hpp"
#include "train/nvme_weight_reader.hpp"
#include "train/planned_machine.hpp"
#include "train/residuals.hpp"
#include "train/shard_state.hpp"
#include "train/state_places.hpp"

namespace spillway::train {
namespace {

// A checkpoint is read through two buffers and written through one.
constexpr std::size_t kStagingBytes = 2 * (std::size_t{4} << 20);
// Measured: code and tables of HDF5, MPI and the C library that nothing has touched yet when the plan is made.
constexpr std::size_t kLaterBytes = std::size_t{8} << 20;
// Measured: panels that OpenBLAS packs for one thread of the pool.
constexpr std::size_t kPanelBytes = std::size_t{1} << 20;
constexpr std::size_t kStoreAlignment = 4096;
// As measured on an H200: 8 bytes for each page of 4 KiB.
constexpr std::size_t kPinnedToAByteOfTables = 512;

/// What the kernels allocate for themselves at first use.
std::size_t workspace_bytes(const Job& job) {
  const model::T5Config& config = job.source.config;
  const DataOptions& data = job.options.data;
  const model::BatchLimits limits = larger(job.train_limits, job.eval_limits);
  const std::int64_t generated = job.generation.items > 0 ? job.generation.options.max_length : 0;
  const std::int64_t longest = job.purpose == Purpose::generate
                                   ? limits.source_rows / std::max<std::int64_t>(limits.sequences, 1)
                                   : std::max(data.max_source_length, data.max_target_length);
  const std::int64_t beams = job.generation.options.num_beams;
  const std::size_t top_continuations =
      job.generation.items > 0 ? kernels::cpu::top_continuations_workspace_bytes(job.generation.items, beams, 2 * beams)
                               : 0;
  const std::int64_t widest_input = std::max({config.d_model, config.d_ff, config.num_heads * config.d_kv});
  return static_cast<std::size_t>(job.threads) * kPanelBytes +
         kernels::cpu::residual_norm_workspace_bytes(config.d_model) +
         kernels::cpu::few_rows_workspace_bytes(widest_input) +
         kernels::cpu::attention_workspace_bytes({.longest_queries = longest,
                                                  .longest_keys = std::max(longest, generated),
                                                  .sequences = limits.sequences,
                                                  .heads = config.num_heads,
                                                  .head_size = config.d_kv,
                                                  .buckets = config.relative_attention_num_buckets,
                                                  .dtype = job.dtype(),
                                                  .threads = job.threads}) +
         kernels::cpu::mixed_gemm_workspace_bytes(job.dtype(), job.threads) + top_continuations;
}

plan::Checkpointing checkpointing_of(GradientCheckpointing choice) {
  switch (choice) {
    case GradientCheckpointing::automatic: return plan::Checkpointing::as_needed;
    case GradientCheckpointing::off: return plan::Checkpointing::off;
    case GradientCheckpointing::on: return plan::Checkpointing::on;
    case GradientCheckpointing::host: return plan::Checkpointing::host;
  }
  return plan::Checkpointing::as_needed;
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

TierChoice own_choice(StateKind kind, const OffloadOptions& offload) {
  switch (kind) {
    case StateKind::weight: return offload.weight;
    case StateKind::master: return offload.master;
    case StateKind::exp_avg: return offload.exp_avg;
    case StateKind::exp_avg_sq: return offload.exp_avg_sq;
  }
  return TierChoice::automatic;
}

/// Moments leave the device before masters: both are moved up and down once a step. Then gradients, which move down under the backward
/// pass, and last weights, which move up for every pass besides. On the host, and with several GPUs, neither of these goes anywhere.
int leaves(StateKind kind, bool streams) {
  switch (kind) {
    case StateKind::weight: return streams ? 1 : 0;
    case StateKind::master: return 3;
    case StateKind::exp_avg:
    case StateKind::exp_avg_sq: break;
  }
  return 4;
}

/// Gradients at rest. A rank that trains alone beside a GPU may have them in host memory.
plan::KindFacts gradient_facts(const Job& job, const std::vector<Extent>& extents, bool streams) {
  plan::KindFacts facts{.name = plan::entry::kGrad,
                        .bytes = {},
                        .memory_bytes = {},
                        .wish = {},
                        .leaves = streams ? 2 : 0,
                        .whole_units = true,
                        .farthest = plan::Tier::host};
  for (const Extent& extent : extents)
    facts.bytes.push_back(job.gradients.trainable(extent.unit)
                              ? static_cast<std::size_t>(extent.range.size()) * size_of(job.gradients.grad)
                              : 0);
  facts.memory_bytes = facts.bytes;
  return facts;
}

void add_state_facts(plan::JobFacts& facts, const Job& job) {
  const std::vector<Extent> extents = make_extents(job.zero, job.extent_elements);
  const bool whole_weights = !(job.zero.stage == 3 && job.zero.sharded());
  const StatePlaces places(job.zero, *job.state, extents, whole_weights);
  const OffloadOptions& offload = job.options.offload;
  const bool streams = job.on_gpu && job.map->ranks() == 1;
  for (const StateKind kind : kAllStateKinds)
    facts.kinds.push_back({.name = StatePlaces::entry_name(kind, *job.state),
                           .bytes = places.bytes(kind),
                           .memory_bytes = places.memory_bytes(kind),
                           .wish = wish_of(own_choice(kind, offload), offload.placement),
                           .leaves = leaves(kind, streams),
                           .whole_units = kind == StateKind::weight,
                           .farthest = facts.training ? plan::Tier::nvme : plan::Tier::host});
  facts.kinds.push_back(gradient_facts(job, extents, streams));
  for (int unit = 0; unit < job.map->units(); ++unit)
    facts.gathered_bytes.push_back(static_cast<std::size_t>(job.map->unit_elements(unit)) * size_of(job.dtype()));
  for (const Extent& extent : extents) facts.extent_units.push_back(extent.unit);
  facts.ring_slots = ShardState::kRingSlots;
  facts.store_alignment = kStoreAlignment;
  const std::vector<std::size_t>& weights = facts.kinds[plan::kWeightKind].bytes;
  facts.weight_staging_bytes = static_cast<std::size_t>(NvmeWeightReader::kBuffers) *
                               round_up(*std::ranges::max_element(weights), kStoreAlignment);
}

/// Adafactor's steps need what the GPU made of its means.
plan::UpdateOn update_on(const Job& job) {
  if (job.adafactor) return plan::UpdateOn::gpu;
  switch (job.options.offload.optimizer_on) {
    case OptimizerPlace::automatic: return plan::UpdateOn::automatic;
    case OptimizerPlace::cpu: return plan::UpdateOn::cpu;
    case OptimizerPlace::gpu: return plan::UpdateOn::gpu;
    case OptimizerPlace::split: return plan::UpdateOn::split;
  }
  return plan::UpdateOn::automatic;
}

void add_training_facts(plan::JobFacts& facts, const Job& job) {
  const GradientLayout& gradients = job.gradients;
  facts.gradient_bytes = gradients.buffer_bytes();
  const auto sums = [&](bool several) {
    return static_cast<std::size_t>(gradients.partial_elements(several) + gradients.sum_elements(several)) *
           sizeof(float);
  };
  facts.gradient_sum_bytes = sums(false);
  facts.group_sum_bytes = sums(true) - sums(false);
  if (job.adafactor) {
    facts.factor_bytes = job.adafactor->mean_bytes();
    facts.step_factor_bytes = Adafactor::sum_bytes(job.zero, job.units) + job.adafactor->factor_bytes();
    const auto workspace = [&](bool collects) { return Adafactor::workspace_bytes(job.zero, job.units, collects); };
    facts.workspace_bytes += workspace(false);
    if (job.options.optimizer.scale_parameter) facts.parameter_bytes = workspace(true) - workspace(false);
  }
  if (job.on_gpu) facts.cpu_update.who = update_on(job);
  facts.kept_bytes = job.training_stage_bytes(true);
  facts.recomputed_bytes = job.training_stage_bytes(false);
  facts.checkpointing = checkpointing_of(job.options.train.gradient_checkpointing);
  model::Carver scratch;
  (void)model::carve_scratch(scratch, job.source.config, job.dtype(), job.train_limits, true, job.head_chunk());
  facts.scratch_bytes = scratch.bytes();
  std::int64_t largest = 0;
  for (int unit = 0; unit < job.map->units(); ++unit) largest = std::max(largest, job.map->shard_elements(unit));
  facts.reduce_bytes = comm::mpi_scratch_bytes(static_cast<std::size_t>(largest) * sizeof(float), job.map->ranks());
  facts.staging_bytes = kStagingBytes;
  if (job.on_gpu && job.options.train.consistency_check_steps > 0)
    facts.staging_bytes += ConsistencyCheck::kBufferBytes;
}

}  // namespace

std::int64_t extent_elements(const Job& job) {
  std::int64_t largest = 0;
  for (int unit = 0; unit < job.map->units(); ++unit) largest = std::max(largest, job.zero.owned(unit).size());
  const auto asked = static_cast<std::int64_t>(job.options.offload.extent_size / sizeof(float));
  return std::min(largest, std::max<std::int64_t>(1, asked / kShardAlignment) * kShardAlignment);
}

plan::JobFacts facts_of(const Job& job, const PlannedMachine& machine) {
  plan::JobFacts facts;
  for (const model::Stage& stage : job.stages) {
    facts.program.stage_units.push_back(stage.unit);
    facts.program.stage_backward.push_back(stage.backward);
  }
  facts.program.units = job.units;
  facts.program.micro_batches = job.micro_batches;
  facts.program.group_size = job.micro_batches;
  facts.training = job.purpose == Purpose::train;
  add_state_facts(facts, job);
  facts.gathers_weights = job.zero.stage == 3 && job.zero.sharded();
  facts.program_bytes = machine.program_bytes() + machine.library_bytes();
  if (!job.on_gpu) facts.workspace_bytes = workspace_bytes(job);
  facts.transfer_bytes = static_cast<std::size_t>(ShardState::kTransferElements) * sizeof(float);
  facts.result_bytes = kernel_result_bytes(job);
  if (facts.training) add_training_facts(facts, job);
  if (job.eval_limits.sequences > 0) {
    model::Carver scratch;
    (void)model::carve_scratch(scratch, job.source.config, job.dtype(), job.eval_limits, false, job.head_chunk());
    facts.evaluation_bytes = InferenceResiduals::bytes(job.stages, job.inference_stage_bytes()) + scratch.bytes();
  }
  if (job.generation.items > 0) {
    model::Carver caches, lists;
    (void)model::carve_generation(caches, lists, job.source.config, job.dtype(), job.generation);
    facts.generation_bytes = caches.bytes();
    facts.generation_list_bytes = lists.bytes();
  }
  facts.batch_bytes = BatchMemory::bytes(larger(job.train_limits, job.eval_limits));
  if (job.on_gpu)
    facts.gpu = {.present = true,
                 .context_bytes = machine.context_bytes(),
                 .workspace_bytes = kernel_workspace_bytes(job),
                 .batch_bytes = facts.batch_bytes,
                 .pinned_to_a_byte_of_tables = kPinnedToAByteOfTables};
  if (job.train_examples)
    facts.data_bytes +=
        job.train_examples->bytes() + static_cast<std::size_t>(job.train_examples->size()) * sizeof(std::int64_t);
  if (job.eval_examples) facts.data_bytes += job.eval_examples->bytes();
  // The data are resident already.
  facts.program_bytes -= std::min(facts.program_bytes, facts.data_bytes);
  facts.program_bytes += kLaterBytes;
  return facts;
}

}  // namespace spillway::train
