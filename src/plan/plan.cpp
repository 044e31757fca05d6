// SPDX-License-Identifier: Apache-2.0
#include "plan/plan.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "core/error.hpp"

namespace spillway::plan {
namespace {

constexpr std::size_t kElement = sizeof(float);

std::size_t bytes_of(std::int64_t elements) { return static_cast<std::size_t>(elements) * kElement; }

struct Choice {
  int group_size;
  Tier exp_avg, exp_avg_sq;
};

Ledger make_ledger(const JobFacts& job, const Choice& choice) {
  std::int64_t owned = 0;
  std::int64_t largest = 0;
  std::int64_t largest_owned = 0;
  for (std::size_t unit = 0; unit < job.units.size(); ++unit) {
    owned += job.units[unit].owned;
    largest_owned = std::max(largest_owned, job.units[unit].owned);
    if (unit > 0) largest = std::max(largest, job.units[unit].elements);
  }
  const std::int64_t persistent = job.units.front().elements;
  const bool many_groups = job.program.micro_batches > choice.group_size;
  const auto group = static_cast<std::size_t>(choice.group_size);

  Ledger ledger;
  ledger.add({.name = entry::kProgram, .tier = Tier::host, .bytes = job.program_bytes});
  ledger.add({.name = entry::kData, .tier = Tier::host, .bytes = job.data_bytes});
  ledger.add({.name = entry::kWeights, .tier = Tier::device, .bytes = bytes_of(owned)});
  if (job.sharded_weights)
    ledger.add(
        {.name = entry::kGathered, .tier = Tier::device, .bytes = bytes_of(persistent + kGatherSlots * largest)});
  if (job.training) {
    ledger.add(
        {.name = entry::kGradients, .tier = Tier::device, .bytes = bytes_of(persistent + kGradientSlots * largest)});
    ledger.add({.name = entry::kGradientShards,
                .tier = Tier::device,
                .bytes = bytes_of(owned + (many_groups ? kGradientSlots * largest_owned : 0))});
    ledger.add({.name = entry::kExpAvg, .tier = choice.exp_avg, .bytes = bytes_of(owned)});
    ledger.add({.name = entry::kExpAvgSq, .tier = choice.exp_avg_sq, .bytes = bytes_of(owned)});
    const auto kinds = static_cast<std::size_t>(choice.exp_avg == Tier::nvme) +
                       static_cast<std::size_t>(choice.exp_avg_sq == Tier::nvme);
    ledger.add({.name = entry::kRing, .tier = Tier::host, .bytes = kinds * job.ring_bytes_per_kind});
    ledger.add({.name = entry::kReduce, .tier = Tier::host, .bytes = job.reduce_bytes});
    ledger.add({.name = entry::kStaging, .tier = Tier::host, .bytes = job.staging_bytes});
  }
  const std::size_t step = job.training ? group * job.residual_bytes + job.scratch_bytes : 0;
  ledger.add({.name = entry::kActivations, .tier = Tier::device, .bytes = std::max(step, job.evaluation_bytes)});
  ledger.add({.name = entry::kGeneration, .tier = Tier::device, .bytes = job.generation_bytes});
  ledger.add({.name = entry::kWorkspace, .tier = Tier::host, .bytes = job.workspace_bytes});
  ledger.add(
      {.name = entry::kBatches, .tier = Tier::device, .bytes = std::max<std::size_t>(group, 1) * job.batch_bytes});
  return ledger;
}

/// What is short, or nothing.
std::string shortage(const Ledger& ledger, const Budgets& budgets) {
  const std::size_t device = ledger.peak(Tier::device);
  const std::size_t memory = device + ledger.peak(Tier::host);
  const std::size_t nvme = ledger.peak(Tier::nvme);
  if (budgets.device && device > *budgets.device)
    return fmt::format("device: needs {}, memory.device allows {}: short by {}", bytes_text(device),
                       bytes_text(*budgets.device), bytes_text(device - *budgets.device));
  if (memory > budgets.host)
    return fmt::format("host: needs {} (device and host entries are both host memory here), {} allows {}: short by {}",
                       bytes_text(memory), budgets.host_source, bytes_text(budgets.host),
                       bytes_text(memory - budgets.host));
  if (nvme > 0 && budgets.nvme == 0)
    return fmt::format("nvme: needs {}, but there is no nvme tier: {}", bytes_text(nvme), budgets.nvme_source);
  if (nvme > budgets.nvme)
    return fmt::format("nvme: needs {}, {} allows {}: short by {}", bytes_text(nvme), budgets.nvme_source,
                       bytes_text(budgets.nvme), bytes_text(nvme - budgets.nvme));
  return {};
}

std::vector<Tier> tiers_to_try(const TierWish& wish) {
  if (wish) return {*wish};
  return {Tier::device, Tier::host, Tier::nvme};
}

}  // namespace

Plan make_plan(const JobFacts& job, const Budgets& budgets) {
  std::string last_shortage;
  Ledger smallest;
  const int largest_group = std::max(1, std::min(job.program.group_size, job.program.micro_batches));
  // Nearest tiers first: a smaller group costs less time than moments that are further away.
  for (const Tier exp_avg : tiers_to_try(job.exp_avg)) {
    for (const Tier exp_avg_sq : tiers_to_try(job.exp_avg_sq)) {
      if (!job.exp_avg && !job.exp_avg_sq && exp_avg_sq != exp_avg) continue;
      for (int group = largest_group; group >= 1; --group) {
        const Choice choice{group, exp_avg, exp_avg_sq};
        Ledger ledger = make_ledger(job, choice);
        std::string missing = shortage(ledger, budgets);
        if (missing.empty()) {
          ProgramFacts facts = job.program;
          facts.group_size = group;
          return {make_step_program(facts), std::move(ledger), exp_avg, exp_avg_sq};
        }
        last_shortage = std::move(missing);
        smallest = std::move(ledger);
      }
    }
  }
  throw PlanError(fmt::format("the plan does not fit: {}\n{}", last_shortage, smallest.text()));
}

}  // namespace spillway::plan
