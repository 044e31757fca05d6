// SPDX-License-Identifier: Apache-2.0
#include "train/budgets.hpp"

#include <algorithm>
#include <vector>

#include <fmt/format.h>

namespace spillway::train {

plan::Budgets budgets_of(const Job& job, const PlannedMachine& machine) {
  const MemoryOptions& memory = job.options.memory;
  const int node = machine.nodes().node_of(job.zero.rank);
  const auto ranks = static_cast<std::size_t>(machine.nodes().ranks_on(node));
  constexpr double kMargin = 0.05;  // for what the kernel and other processes take meanwhile
  plan::Budgets budgets;
  budgets.ranks = ranks;
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
    return kind.exists() &&
           kind.wish.value_or(kind.leaves > 0 ? kind.farthest : plan::Tier::device) == plan::Tier::nvme;
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
                                    static_cast<double>(facts.workspace_bytes), static_cast<double>(budgets.ranks)};
  const std::vector<double> all = comm::all_gather_doubles(communicator, mine);
  for (std::size_t rank = 0; rank < all.size() / mine.size(); ++rank) {
    const std::span<const double> its = std::span(all).subspan(rank * mine.size(), mine.size());
    budgets.host = std::min(budgets.host, static_cast<std::size_t>(its[0]));
    budgets.nvme = std::min(budgets.nvme, static_cast<std::size_t>(its[1]));
    facts.program_bytes = std::max(facts.program_bytes, static_cast<std::size_t>(its[2]));
    facts.workspace_bytes = std::max(facts.workspace_bytes, static_cast<std::size_t>(its[3]));
    budgets.ranks = std::max(budgets.ranks, static_cast<std::size_t>(its[4]));
  }
}

}  // namespace spillway::train
