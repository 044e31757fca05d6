// SPDX-License-Identifier: Apache-2.0
#include "train/plan_file.hpp"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "train/run_state.hpp"
#include "train/snapshot_layout.hpp"

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
  for (std::size_t kind = 0; kind < job.facts.kinds.size(); ++kind) {
    const std::size_t bytes = job.plan.placement.bytes(job.facts, kind, plan::Tier::nvme);
    traffic.nvme_read += bytes;
    traffic.nvme_write += bytes;
  }
  const auto bytes = [](std::int64_t elements, int copies, DType dtype) {
    return static_cast<std::size_t>(elements) * static_cast<std::size_t>(copies) * size_of(dtype);
  };
  for (const plan::Op& op : job.plan.program.ops) {
    if (op.kind == plan::OpKind::reduce) {
      traffic.reduced += bytes(job.map->shard_elements(op.unit), job.map->ranks() - 1, job.gradients.reduce);
      traffic.gathered += bytes(job.map->shard_elements(op.unit), job.zero.copies() - 1, job.gradients.grad);
    }
    if (op.kind == plan::OpKind::acquire)
      traffic.nvme_read += job.plan.placement.unit_bytes(job.facts, plan::kWeightKind, op.unit, plan::Tier::nvme);
    const plan::OpKind gathers = job.gathers_weights() ? plan::OpKind::acquire : plan::OpKind::update;
    if (op.kind != gathers) continue;
    traffic.gathered += bytes(job.zero.owned(op.unit).size(), job.zero.shards - 1, job.dtype());
  }
  return traffic;
}

ordered_json prediction_json(const Job& job) {
  const plan::Prediction& step = *job.prediction;
  ordered_json resources;
  for (std::size_t i = 0; i < plan::kResources; ++i) {
    const plan::ResourceUse& use = step.resources[i];
    if (use.busy_seconds > 0.0)
      resources[plan::name_of(static_cast<plan::Resource>(i))] = {{"busy_seconds", use.busy_seconds},
                                                                  {"bytes", static_cast<std::uint64_t>(use.bytes)}};
  }
  ordered_json object = {{"profile", job.profile->name},
                         {"seconds_per_step", step.seconds},
                         {"bound_by", plan::name_of(step.bound())},
                         {"bound_seconds", step.bound_seconds},
                         {"waiting_seconds", step.waiting_seconds}};
  if (const std::optional<double> share = predicted_utilization(job)) object["model_flops_utilization"] = *share;
  object["resources"] = resources;
  return object;
}

/// "host", or "device (2.13 GiB) and host (5.00 GiB)"; nothing for a kind that the job does not have.
std::string tiers_text(const Job& job, std::size_t kind) {
  const std::string& name = job.facts.kinds[kind].name;
  std::vector<plan::LedgerEntry> entries;
  std::ranges::copy_if(job.plan.ledger.entries(), std::back_inserter(entries),
                       [&](const plan::LedgerEntry& entry) { return entry.name == name; });
  if (entries.size() == 1) return plan::name_of(entries.front().tier);
  std::string text;
  for (const plan::LedgerEntry& entry : entries)
    text +=
        fmt::format("{}{} ({})", text.empty() ? "" : " and ", plan::name_of(entry.tier), plan::bytes_text(entry.bytes));
  return text;
}

/// What saving every few steps comes to; nothing if that was not asked for, or training was asked to wait.
std::string saving_text(const Job& job) {
  const CheckpointOptions& options = job.options.checkpoint;
  if (!options.async || options.save_steps == StepInterval(0)) return {};
  const std::string whole = plan::bytes_text(snapshot_layout(job).whole_bytes() + snapshot_factor_bytes(job));
  switch (saving_of(job)) {
    case Saving::whole: return fmt::format("; saves beside training through a snapshot of {}", whole);
    case Saving::in_pieces:
      return fmt::format("; saves beside training in pieces: {} for a snapshot of {}",
                         plan::bytes_text(job.plan.ledger.bytes(plan::entry::kSnapshot)), whole);
    case Saving::blocking: break;
  }
  return fmt::format("; saves stop training: the host has no room for any of a snapshot of {}", whole);
}

const char* name_of(Saving saving) {
  switch (saving) {
    case Saving::blocking: break;
    case Saving::in_pieces: return "in_pieces";
    case Saving::whole: return "whole";
  }
  return "blocking";
}

/// Of the gradients of a rank, those whose parameters the CPU updates beside a GPU.
double cpu_share(const Job& job) {
  double all = 0.0, on_cpu = 0.0;
  if (job.facts.kinds.size() <= plan::kGradientKind) return 0.0;
  const std::vector<std::size_t>& bytes = job.facts.kinds[plan::kGradientKind].bytes;
  for (std::size_t extent = 0; extent < bytes.size(); ++extent) {
    all += static_cast<double>(bytes[extent]);
    if (job.plan.placement.updated_on_cpu(extent)) on_cpu += static_cast<double>(bytes[extent]);
  }
  return all > 0.0 ? on_cpu / all : 0.0;
}

}  // namespace

std::optional<double> predicted_utilization(const Job& job) {
  if (!job.on_gpu || !job.prediction) return std::nullopt;
  return job.costs.model_flops / job.prediction->seconds / plan::product_rate(*job.profile, job.costs);
}

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
  object["saving"] = name_of(saving_of(job));
  if (job.on_gpu) object["share_updated_on_cpu"] = cpu_share(job);
  object["step_program"] = {{"ops", job.plan.program.ops.size()},
                            {"groups", job.plan.program.groups},
                            {"group_size", job.plan.program.group_size},
                            {"hash", fmt::format("{:016x}", job.plan.program.hash())}};
  if (job.prediction) object["predicted"] = prediction_json(job);
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
  std::string places;
  for (const StateKind kind : kAllStateKinds)
    if (const std::string where = tiers_text(job, static_cast<std::size_t>(kind)); !where.empty())
      places += fmt::format("{}{} on {}", places.empty() ? "" : ", ", name_of(kind), where);
  if (job.plan.placement.uses(plan::kGradientKind, plan::Tier::host))
    places += fmt::format(", grad on {}", tiers_text(job, plan::kGradientKind));
  if (const double share = cpu_share(job); share > 0.0)
    places += fmt::format("; the CPU updates {:.1f} % of the parameters", 100.0 * share);
  int again = 0;
  for (const model::Stage& stage : job.stages) {
    const auto i = static_cast<std::size_t>(&stage - job.stages.data());
    if (static_cast<int>(i) < job.plan.first_kept_stage && job.facts.recomputed_bytes[i] < job.facts.kept_bytes[i])
      ++again;
  }
  if (again > 0) places += fmt::format("; {} block{} recomputed", again, again == 1 ? "" : "s");
  if (job.plan.host_stages > 0) places += fmt::format(", the inputs of {} in host memory", job.plan.host_stages);
  places += saving_text(job);
  return fmt::format(
      "{} parameters on {} rank{}, ZeRO stage {}, {} thread{} a rank\n"
      "{} steps of {} samples, up to {} + {} tokens a micro-batch\n"
      "memory of a rank: {}; {}\n"
      "numeric signature: {}",
      job.map->parameters(), job.map->ranks(), job.map->ranks() == 1 ? "" : "s", job.zero.stage, job.threads,
      job.threads == 1 ? "" : "s", job.total_steps, job.global_batch_size, job.train_limits.source_rows,
      job.train_limits.target_rows, memory, places, signature);
}

}  // namespace spillway::train
