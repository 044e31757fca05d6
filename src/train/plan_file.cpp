// SPDX-License-Identifier: Apache-2.0
#include "train/plan_file.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "train/run_state.hpp"

namespace spillway::train {
namespace {

using nlohmann::ordered_json;

/// Bytes that cross each link of one rank in one step.
struct Traffic {
  std::size_t nvme_read = 0, nvme_write = 0;
  std::size_t gathered = 0, reduced = 0;  // sent to other ranks
};

Traffic traffic_of(const Job& job) {
  Traffic traffic;
  const auto owned = static_cast<std::size_t>(job.zero.owned_elements()) * sizeof(float);
  for (const plan::Tier tier : {job.plan.exp_avg, job.plan.exp_avg_sq})
    if (tier == plan::Tier::nvme) {
      traffic.nvme_read += owned;
      traffic.nvme_write += owned;
    }
  const auto others = static_cast<std::size_t>(job.map->ranks() - 1);
  for (const plan::Op& op : job.plan.program.ops) {
    if (op.unit < 0) continue;
    const std::size_t shard = static_cast<std::size_t>(job.map->shard_elements(op.unit)) * sizeof(float) * others;
    if (op.kind == plan::OpKind::reduce) traffic.reduced += shard;
    if (op.kind == plan::OpKind::reduce && !job.zero.sharded()) traffic.gathered += shard;
    if (op.kind == plan::OpKind::acquire && job.zero.sharded()) traffic.gathered += shard;
  }
  return traffic;
}

}  // namespace

std::string plan_json(const Job& job) {
  ordered_json ledger = ordered_json::array();
  for (const plan::LedgerEntry& entry : job.plan.ledger.entries()) {
    ordered_json phases = ordered_json::array();
    for (const plan::Phase phase : {plan::Phase::step, plan::Phase::evaluation, plan::Phase::save})
      if (entry.in(phase)) phases.push_back(plan::name_of(phase));
    ledger.push_back(
        {{"name", entry.name}, {"tier", plan::name_of(entry.tier)}, {"bytes", entry.bytes}, {"phases", phases}});
  }
  ordered_json totals;
  for (const plan::Tier tier : {plan::Tier::device, plan::Tier::host, plan::Tier::nvme})
    totals[plan::name_of(tier)] = job.plan.ledger.peak(tier);
  const Traffic traffic = traffic_of(job);
  ordered_json object;
  object["parameters"] = job.map->parameters();
  object["ranks"] = job.map->ranks();
  object["zero_stage"] = job.zero.stage;
  object["ledger_of_one_rank"] = ledger;
  object["peak_bytes_of_one_rank"] = totals;
  object["bytes_per_step_at_most"] = {{"nvme_read", traffic.nvme_read},
                                      {"nvme_write", traffic.nvme_write},
                                      {"all_gather_sent", traffic.gathered},
                                      {"reduce_scatter_sent", traffic.reduced}};
  object["step_program"] = {{"ops", job.plan.program.ops.size()},
                            {"groups", job.plan.program.groups},
                            {"group_size", job.plan.program.group_size},
                            {"hash", fmt::format("{:016x}", job.plan.program.hash())}};
  object["numeric_signature"] = numeric_signature(job);
  return object.dump(2) + "\n";
}

std::string plan_summary(const Job& job) {
  const plan::Ledger& ledger = job.plan.ledger;
  std::string signature;
  for (const auto& [part, value] : numeric_signature(job))
    signature += fmt::format("{}{} {}", signature.empty() ? "" : ", ", part, value);
  std::string memory;
  for (const plan::Tier tier : {plan::Tier::device, plan::Tier::host, plan::Tier::nvme})
    if (ledger.peak(tier) > 0)
      memory +=
          fmt::format("{}{} {}", memory.empty() ? "" : ", ", plan::name_of(tier), plan::bytes_text(ledger.peak(tier)));
  return fmt::format(
      "{} parameters on {} rank{}, ZeRO stage {}, {} thread{} a rank\n"
      "{} steps of {} samples, up to {} + {} tokens a micro-batch\n"
      "memory of a rank: {}; exp_avg on {}, exp_avg_sq on {}\n"
      "numeric signature: {}",
      job.map->parameters(), job.map->ranks(), job.map->ranks() == 1 ? "" : "s", job.zero.stage, job.threads,
      job.threads == 1 ? "" : "s", job.total_steps, job.global_batch_size, job.train_limits.source_rows,
      job.train_limits.target_rows, memory, plan::name_of(job.plan.exp_avg), plan::name_of(job.plan.exp_avg_sq),
      signature);
}

}  // namespace spillway::train
