// SPDX-License-Identifier: Apache-2.0
#include "plan/plan.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "core/error.hpp"

namespace spillway::plan {
namespace {

struct Choice {
  int group_size = 1;
  int first_kept_stage = 0;
  std::vector<Tier> tiers;
};

std::size_t residual_bytes(const JobFacts& job, int first_kept_stage) {
  std::size_t sum = 0;
  for (std::size_t stage = 0; stage < job.kept_bytes.size(); ++stage)
    sum += static_cast<int>(stage) < first_kept_stage ? job.recomputed_bytes[stage] : job.kept_bytes[stage];
  return sum;
}

/// Group size and first stage whose activations are kept, the fastest first: groups cost less than running stages again.
std::vector<std::pair<int, int>> shapes(const JobFacts& job) {
  const int largest_group = std::max(1, std::min(job.program.group_size, job.program.micro_batches));
  const int stages = static_cast<int>(job.kept_bytes.size());
  std::vector<std::pair<int, int>> all;
  const int kept = job.checkpointing == Checkpointing::on ? stages : 0;
  for (int group = largest_group; group >= 1; --group) all.emplace_back(group, kept);
  if (job.checkpointing == Checkpointing::as_needed)
    for (int first = 1; first <= stages; ++first)
      if (job.recomputed_bytes[static_cast<std::size_t>(first) - 1] <
          job.kept_bytes[static_cast<std::size_t>(first) - 1])
        all.emplace_back(1, first);
  return all;
}

Ledger make_ledger(const JobFacts& job, const Choice& choice) {
  const bool several_groups = job.program.micro_batches > choice.group_size;
  const auto group = static_cast<std::size_t>(choice.group_size);

  Ledger ledger;
  ledger.add({.name = entry::kProgram, .tier = Tier::host, .bytes = job.program_bytes});
  ledger.add({.name = entry::kData, .tier = Tier::host, .bytes = job.data_bytes});
  std::size_t ring_bytes = 0;
  for (std::size_t kind = 0; kind < job.kinds.size(); ++kind) {
    const KindFacts& facts = job.kinds[kind];
    const bool nvme = choice.tiers[kind] == Tier::nvme;
    ledger.add({.name = facts.name, .tier = choice.tiers[kind], .bytes = nvme ? facts.nvme_bytes : facts.bytes});
    if (nvme) ring_bytes += facts.ring_bytes;
  }
  const bool weights_on_nvme = choice.tiers.front() == Tier::nvme;
  if (job.gathers_weights || weights_on_nvme)
    ledger.add({.name = entry::kGathered, .tier = Tier::device, .bytes = job.gathered_bytes});
  if (weights_on_nvme)
    ledger.add({.name = entry::kWeightStaging, .tier = Tier::host, .bytes = job.weight_staging_bytes});
  if (job.training) {
    ledger.add({.name = entry::kGradients, .tier = Tier::device, .bytes = job.gradient_bytes});
    ledger.add({.name = entry::kGrad, .tier = Tier::device, .bytes = job.grad_bytes});
    ledger.add({.name = entry::kGradientSums,
                .tier = Tier::device,
                .bytes = job.gradient_sum_bytes + (several_groups ? job.group_sum_bytes : 0)});
    ledger.add({.name = entry::kFactors, .tier = Tier::host, .bytes = job.factor_bytes});
    ledger.add({.name = entry::kStepFactors, .tier = Tier::device, .bytes = job.step_factor_bytes});
    ledger.add({.name = entry::kReduce, .tier = Tier::host, .bytes = job.reduce_bytes});
    ledger.add({.name = entry::kStaging, .tier = Tier::host, .bytes = job.staging_bytes});
  }
  ledger.add({.name = entry::kResults, .tier = Tier::host, .bytes = job.result_bytes});
  ledger.add({.name = entry::kTransfer, .tier = Tier::host, .bytes = job.transfer_bytes});
  ledger.add({.name = entry::kRing, .tier = Tier::host, .bytes = ring_bytes});
  const std::size_t step = job.training ? group * residual_bytes(job, choice.first_kept_stage) + job.scratch_bytes : 0;
  ledger.add({.name = entry::kActivations, .tier = Tier::device, .bytes = std::max(step, job.evaluation_bytes)});
  ledger.add({.name = entry::kGeneration, .tier = Tier::device, .bytes = job.generation_bytes});
  ledger.add({.name = entry::kGenerationLists, .tier = Tier::host, .bytes = job.generation_list_bytes});
  ledger.add({.name = entry::kWorkspace, .tier = Tier::host, .bytes = job.workspace_bytes});
  const std::size_t batches = std::max<std::size_t>(group, 1);
  ledger.add({.name = entry::kBatches, .tier = Tier::device, .bytes = batches * job.batch_bytes});
  if (!job.gpu.present) return ledger;
  ledger.add({.name = entry::kContext, .tier = Tier::device, .bytes = job.gpu.context_bytes});
  ledger.add({.name = entry::kKernels, .tier = Tier::device, .bytes = job.gpu.workspace_bytes});
  ledger.add({.name = entry::kBatchCopies, .tier = Tier::host, .bytes = batches * job.gpu.batch_bytes});
  return ledger;
}

/// What is short, or nothing.
std::string shortage(const Ledger& ledger, const Budgets& budgets, bool gpu) {
  const std::size_t device = ledger.peak(Tier::device);
  const std::size_t memory = (gpu ? 0 : device) + ledger.peak(Tier::host);
  const std::size_t nvme = ledger.peak(Tier::nvme);
  if (budgets.device && device > *budgets.device)
    return fmt::format("device: needs {}, {} allows {}: short by {}", bytes_text(device), budgets.device_source,
                       bytes_text(*budgets.device), bytes_text(device - *budgets.device));
  if (memory > budgets.host)
    return fmt::format("host: needs {}{}, {} allows {}: short by {}", bytes_text(memory),
                       gpu ? "" : " (device and host entries are both host memory here)", budgets.host_source,
                       bytes_text(budgets.host), bytes_text(memory - budgets.host));
  if (nvme > 0 && budgets.nvme == 0)
    return fmt::format("nvme: needs {}, but there is no nvme tier: {}", bytes_text(nvme), budgets.nvme_source);
  if (nvme > budgets.nvme)
    return fmt::format("nvme: needs {}, {} allows {}: short by {}", bytes_text(nvme), budgets.nvme_source,
                       bytes_text(budgets.nvme), bytes_text(nvme - budgets.nvme));
  return {};
}

/// Nearest first. Kinds that spill go together; each goes where it was wished to be.
std::vector<std::vector<Tier>> placements(const JobFacts& job) {
  std::vector<std::vector<Tier>> all;
  for (const Tier spilled : {Tier::device, Tier::host, Tier::nvme}) {
    std::vector<Tier> tiers;
    for (const KindFacts& kind : job.kinds) tiers.push_back(kind.wish.value_or(kind.spills ? spilled : Tier::device));
    if (all.empty() || all.back() != tiers) all.push_back(std::move(tiers));
  }
  return all;
}

}  // namespace

std::vector<std::size_t> Plan::stage_bytes(const JobFacts& job) const {
  std::vector<std::size_t> bytes = job.kept_bytes;
  std::copy_n(job.recomputed_bytes.begin(), first_kept_stage, bytes.begin());
  return bytes;
}

Plan make_plan(const JobFacts& job, const Budgets& budgets) {
  std::string last_shortage;
  Ledger smallest;
  // Running stages again costs less time than state that is further away.
  for (const std::vector<Tier>& tiers : placements(job)) {
    for (const auto& [group, first_kept] : shapes(job)) {
      Ledger ledger = make_ledger(job, {group, first_kept, tiers});
      std::string missing = shortage(ledger, budgets, job.gpu.present);
      if (missing.empty()) {
        ProgramFacts facts = job.program;
        facts.group_size = group;
        return {make_step_program(facts), std::move(ledger), tiers, first_kept};
      }
      last_shortage = std::move(missing);
      smallest = std::move(ledger);
    }
  }
  throw PlanError(fmt::format("the plan does not fit: {}\n{}", last_shortage, smallest.text()));
}

}  // namespace spillway::plan
