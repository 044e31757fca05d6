// SPDX-License-Identifier: Apache-2.0
#include "train/job_facts.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "comm/mpi_communicator.hpp"
#include "kernels/cpu/attention_workspace.hpp"
#include "kernels/cpu/few_rows_gemm.hpp"
#include "kernels/cpu/mixed_gemm.hpp"
#include "kernels/cpu/residual_norm.hpp"
#include "kernels/cpu/top_continuations.hpp"
#include "offload/state_ring.hpp"
#include "train/adafactor.hpp"
#include "train/batches.hpp"
#include "train/kernel_set.hpp"
#include "train/nvme_weight_reader.hpp"
#include "train/parameters.hpp"
#include "train/planned_machine.hpp"
#include "train/residuals.hpp"
#include "train/shard_state.hpp"

namespace spillway::train {
namespace {

// A checkpoint is read through two buffers and written through one.
constexpr std::size_t kStagingBytes = 2 * (std::size_t{4} << 20);
// Measured: code and tables of HDF5, MPI and the C library that nothing has touched yet when the plan is made.
constexpr std::size_t kLaterBytes = std::size_t{8} << 20;
// Measured: panels that OpenBLAS packs for one thread of the pool.
constexpr std::size_t kPanelBytes = std::size_t{1} << 20;
constexpr std::size_t kStoreAlignment = 4096;

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

plan::KindFacts facts_of_kind(StateKind kind, const Job& job) {
  const OffloadOptions& offload = job.options.offload;
  const bool whole_weights = !(job.zero.stage == 3 && job.zero.sharded());
  std::size_t largest = 0, stored = 0;
  for (const Extent& extent : make_extents(job.zero, job.extent_elements)) {
    const std::size_t bytes = job.state->bytes(kind, extent.unit, extent.range.size());
    largest = std::max(largest, bytes);
    stored += (bytes + kStoreAlignment - 1) / kStoreAlignment * kStoreAlignment;
  }
  plan::KindFacts facts{.name = ShardState::entry_name(kind, *job.state),
                        .bytes = ShardState::bytes(kind, job.zero, *job.state, whole_weights),
                        .nvme_bytes = stored,
                        .wish = wish_of(own_choice(kind, offload), offload.placement),
                        .spills = kind == StateKind::exp_avg || kind == StateKind::exp_avg_sq};
  if (largest > 0)
    facts.ring_bytes =
        offload::StateRing::bytes_needed(std::span(&largest, 1), ShardState::kRingSlots, kStoreAlignment);
  return facts;
}

void add_training_facts(plan::JobFacts& facts, const Job& job) {
  const GradientLayout& gradients = job.gradients;
  facts.gradient_bytes = gradients.buffer_bytes();
  facts.grad_bytes = gradients.grad_bytes();
  const auto sums = [&](bool several) {
    return static_cast<std::size_t>(gradients.partial_elements(several) + gradients.sum_elements(several)) *
           sizeof(float);
  };
  facts.gradient_sum_bytes = sums(false);
  facts.group_sum_bytes = sums(true) - sums(false);
  if (job.adafactor) {
    facts.factor_bytes = job.adafactor->mean_bytes();
    facts.step_factor_bytes = job.adafactor->factor_bytes();
    // Weights and masters are on nvme only where that is asked for.
    const bool from_nvme = std::ranges::any_of(std::span(facts.kinds).first(2), [](const plan::KindFacts& kind) {
      return kind.bytes > 0 && kind.wish == plan::Tier::nvme;
    });
    facts.workspace_bytes +=
        Adafactor::workspace_bytes(job.zero, job.units, job.options.optimizer.scale_parameter && from_nvme);
  }
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
  for (const StateKind kind : kAllStateKinds) facts.kinds.push_back(facts_of_kind(kind, job));
  facts.gathers_weights = job.zero.stage == 3 && job.zero.sharded();
  facts.gathered_bytes =
      static_cast<std::size_t>(Parameters::gathered_elements(*job.map, job.units)) * size_of(job.dtype());
  facts.weight_staging_bytes =
      facts.kinds.front().ring_bytes / ShardState::kRingSlots * static_cast<std::size_t>(NvmeWeightReader::kBuffers);
  facts.program_bytes = machine.program_bytes();
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
                 .batch_bytes = facts.batch_bytes};
  if (job.train_examples)
    facts.data_bytes +=
        job.train_examples->bytes() + static_cast<std::size_t>(job.train_examples->size()) * sizeof(std::int64_t);
  if (job.eval_examples) facts.data_bytes += job.eval_examples->bytes();
  // The data are resident already.
  facts.program_bytes -= std::min(facts.program_bytes, facts.data_bytes);
  facts.program_bytes += kLaterBytes;
  return facts;
}

plan::Budgets budgets_of(const Job& job, const PlannedMachine& machine) {
  const MemoryOptions& memory = job.options.memory;
  const int node = machine.nodes().node_of(job.zero.rank);
  const auto ranks = static_cast<std::size_t>(machine.nodes().ranks_on(node));
  constexpr double kMargin = 0.05;  // for what the kernel and other processes take meanwhile
  plan::Budgets budgets;
  if (memory.device) budgets.device = static_cast<std::size_t>(*memory.device);
  if (job.on_gpu) {
    // What CUDA holds already is in the ledger.
    const std::size_t room = machine.device_room();
    if (!budgets.device || room < *budgets.device) budgets.device_source = "free memory of " + machine.device_name();
    budgets.device = std::min(budgets.device.value_or(room), room);
  }
  const std::size_t available = machine.available_host_bytes();
  // What this rank holds already is in the ledger too, so it is added to what is free.
  const auto free = static_cast<std::size_t>(static_cast<double>(available) * (1.0 - kMargin)) / ranks +
                    (machine.holds_program() ? machine.program_bytes() : 0);
  budgets.host = memory.host ? std::min(static_cast<std::size_t>(*memory.host) / ranks, free) : free;
  const std::string share = ranks > 1 ? fmt::format(" (1/{} of it for each rank of this node)", ranks) : "";
  budgets.host_source = memory.host && static_cast<std::size_t>(*memory.host) / ranks <= free
                            ? "memory.host" + share
                            : "free memory of this node less 5 %" + share;
  // Directories are not looked at where nothing can land in them.
  const bool may_use_nvme = std::ranges::any_of(job.facts.kinds, [](const plan::KindFacts& kind) {
    return kind.bytes > 0 &&
           kind.wish.value_or(kind.spills ? plan::Tier::nvme : plan::Tier::device) == plan::Tier::nvme;
  });
  if (!may_use_nvme) return budgets;
  if (job.options.offload.store == StoreChoice::memory) {
    budgets.nvme = budgets.host;
    budgets.nvme_source = "offload.store = \"memory\"";
  } else if (job.nvme_dirs.empty()) {
    budgets.nvme_source = "set offload.nvme_dirs (SLURM_TMPDIR is not set)";
  } else {
    const std::size_t disk = machine.disk_room(job.nvme_dirs);
    budgets.nvme = (memory.nvme ? std::min(static_cast<std::size_t>(*memory.nvme), disk) : disk) / ranks;
    budgets.nvme_source = memory.nvme && *memory.nvme <= disk ? "memory.nvme" : "free space of offload.nvme_dirs";
  }
  return budgets;
}

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

}  // namespace spillway::train
