// SPDX-License-Identifier: Apache-2.0
#include "plan/job_ledger.hpp"

#include <algorithm>
#include <numeric>

#include "plan/cpu_share.hpp"

namespace spillway::plan {
namespace {

void add_state(Ledger& ledger, const JobFacts& job, const Placement& placement) {
  for (std::size_t kind = 0; kind < std::min(job.kinds.size(), kGradientKind); ++kind)
    for (const Tier tier : {Tier::device, Tier::host, Tier::nvme})
      ledger.add({.name = job.kinds[kind].name, .tier = tier, .bytes = placement.bytes(job, kind, tier)});
  ledger.add({.name = entry::kGathered, .tier = Tier::device, .bytes = placement.gathered_bytes(job)});
  ledger.add({.name = entry::kWeightStaging, .tier = Tier::host, .bytes = placement.weight_staging_bytes(job)});
  ledger.add({.name = entry::kRing, .tier = Tier::host, .bytes = placement.ring_bytes(job)});
}

/// Whether a stage keeps less if it runs again.
bool may_run_again(const JobFacts& job, std::size_t stage) {
  return job.recomputed_bytes[stage] < job.kept_bytes[stage];
}

void add_host_residuals(Ledger& ledger, const JobFacts& job, const Shape& shape) {
  const std::vector<std::size_t> of_stages = host_stage_bytes(job, shape);
  const auto group = static_cast<std::size_t>(shape.group_size);
  const auto places = static_cast<std::size_t>(residual_places(shape.group_size, shape.host_stages));
  ledger.add({.name = entry::kResidualRing, .tier = Tier::device, .bytes = places * std::ranges::max(of_stages)});
  ledger.add({.name = entry::kHostResiduals,
              .tier = Tier::host,
              .bytes = group * std::accumulate(of_stages.begin(), of_stages.end(), std::size_t{0})});
}

void add_training(Ledger& ledger, const JobFacts& job, const Placement& placement, bool several_groups) {
  ledger.add({.name = entry::kGradients, .tier = Tier::device, .bytes = job.gradient_bytes});
  if (job.kinds.size() > kGradientKind)
    for (const Tier tier : {Tier::device, Tier::host})
      ledger.add({.name = entry::kGrad, .tier = tier, .bytes = placement.bytes(job, kGradientKind, tier)});
  ledger.add({.name = entry::kGradientsOut, .tier = Tier::device, .bytes = placement.gradient_slot_bytes(job)});
  ledger.add({.name = entry::kGradientSums,
              .tier = Tier::device,
              .bytes = job.gradient_sum_bytes + (several_groups ? job.group_sum_bytes : 0)});
  ledger.add({.name = entry::kFactors, .tier = Tier::host, .bytes = job.factor_bytes});
  ledger.add({.name = entry::kStepFactors, .tier = Tier::device, .bytes = job.step_factor_bytes});
  ledger.add({.name = entry::kReduce, .tier = Tier::host, .bytes = job.reduce_bytes});
  ledger.add({.name = entry::kStaging, .tier = Tier::host, .bytes = job.staging_bytes});
}

}  // namespace

int residual_places(int group_size, int stages) {
  return std::min(group_size + kResidualPlacesBesides, group_size * stages);
}

int stages_again(const JobFacts& job, int first_kept_stage) {
  int stages = 0;
  for (std::size_t stage = 0; stage < static_cast<std::size_t>(first_kept_stage); ++stage)
    stages += may_run_again(job, stage) ? 1 : 0;
  return stages;
}

std::vector<std::size_t> stage_bytes(const JobFacts& job, const Shape& shape) {
  std::vector<std::size_t> bytes = job.kept_bytes;
  std::copy_n(job.recomputed_bytes.begin(), shape.first_kept_stage, bytes.begin());
  const std::vector<std::size_t> on_host = host_stage_bytes(job, shape);
  for (std::size_t stage = 0; stage < bytes.size(); ++stage) bytes[stage] -= on_host[stage];
  return bytes;
}

std::vector<std::size_t> host_stage_bytes(const JobFacts& job, const Shape& shape) {
  std::vector<std::size_t> bytes(job.kept_bytes.size(), 0);
  int stages = 0;
  for (std::size_t stage = 0; stage < static_cast<std::size_t>(shape.first_kept_stage); ++stage)
    if (may_run_again(job, stage) && stages < shape.host_stages) {
      bytes[stage] = job.recomputed_bytes[stage];
      ++stages;
    }
  return bytes;
}

Ledger make_ledger(const JobFacts& job, const Shape& shape, const Placement& placement) {
  const auto group = static_cast<std::size_t>(std::max(shape.group_size, 1));

  Ledger ledger;
  ledger.add({.name = entry::kProgram, .tier = Tier::host, .bytes = job.program_bytes});
  ledger.add({.name = entry::kData, .tier = Tier::host, .bytes = job.data_bytes});
  add_state(ledger, job, placement);
  if (job.training) add_training(ledger, job, placement, job.program.micro_batches > shape.group_size);
  ledger.add({.name = entry::kResults, .tier = Tier::host, .bytes = job.result_bytes});
  ledger.add({.name = entry::kTransfer, .tier = Tier::host, .bytes = job.transfer_bytes});
  const std::vector<std::size_t> stages = stage_bytes(job, shape);
  const std::size_t residuals = std::accumulate(stages.begin(), stages.end(), std::size_t{0});
  const std::size_t step = job.training ? group * residuals + job.scratch_bytes : 0;
  ledger.add({.name = entry::kActivations, .tier = Tier::device, .bytes = std::max(step, job.evaluation_bytes)});
  if (job.training && shape.host_stages > 0) add_host_residuals(ledger, job, shape);
  ledger.add({.name = entry::kGeneration, .tier = Tier::device, .bytes = job.generation_bytes});
  ledger.add({.name = entry::kGenerationLists, .tier = Tier::host, .bytes = job.generation_list_bytes});
  ledger.add(
      {.name = entry::kWorkspace, .tier = Tier::host, .bytes = job.workspace_bytes + placement.parameter_bytes(job)});
  ledger.add({.name = entry::kBatches, .tier = Tier::device, .bytes = group * job.batch_bytes});
  if (!job.gpu.present) return ledger;
  ledger.add({.name = entry::kContext, .tier = Tier::device, .bytes = job.gpu.context_bytes});
  ledger.add(
      {.name = entry::kPageTables,
       .tier = Tier::device,
       .bytes = placement.page_table_bytes(job) + job.gpu.table_bytes(ledger.bytes(entry::kHostResiduals))});
  ledger.add({.name = entry::kLinkRing, .tier = Tier::device, .bytes = placement.link_ring_bytes(job)});
  ledger.add({.name = entry::kCpuRing, .tier = Tier::host, .bytes = cpu_ring_bytes(job, placement)});
  ledger.add({.name = entry::kKernels, .tier = Tier::device, .bytes = job.gpu.workspace_bytes});
  ledger.add({.name = entry::kBatchCopies, .tier = Tier::host, .bytes = group * job.gpu.batch_bytes});
  return ledger;
}

}  // namespace spillway::plan
