// SPDX-License-Identifier: Apache-2.0
#include "plan/plan.hpp"

#include <algorithm>
#include <limits>
#include <numeric>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "core/error.hpp"
#include "plan/shortage.hpp"

namespace spillway::plan {
namespace {

/// What the budgets leave for state that has no wish.
Room room_for_state(const JobFacts& job, const Budgets& budgets, const Shape& shape) {
  // Everything at its nearest; what may still move is taken off again.
  const Placement nearest = Placement::wished(job);
  const Ledger ledger = make_ledger(job, shape, nearest);
  const std::size_t device = ledger.peak(Tier::device) - movable_bytes(job) - nearest.link_ring_bytes(job) -
                             nearest.gathered_bytes(job) - nearest.gradient_slot_bytes(job) -
                             nearest.page_table_bytes(job);
  const std::size_t host = ledger.peak(Tier::host) - nearest.ring_bytes(job) - nearest.parameter_bytes(job) -
                           nearest.weight_staging_bytes(job) + (job.gpu.present ? 0 : device);
  const auto left = [](std::size_t budget, std::size_t taken) { return budget - std::min(budget, taken); };
  return {.device = budgets.device ? left(*budgets.device, device) : std::numeric_limits<std::size_t>::max(),
          .host = left(budgets.host, host),
          .shared = !job.gpu.present};
}

bool several_groups(const JobFacts& job, const Shape& shape) { return job.program.micro_batches > shape.group_size; }

/// What a job of several groups could have otherwise.
std::string gradients_note(const JobFacts& job, const Shape& shape) {
  const bool may_leave = job.kinds.size() > kGradientKind && job.kinds[kGradientKind].leaves > 0;
  if (!may_leave || !several_groups(job, shape)) return {};
  return "gradients can be in host memory only where a step is one group of micro-batches; with fewer of them "
         "(train.gradient_accumulation_steps) they could\n";
}

std::size_t bytes_on_nvme(const JobFacts& job, const Placement& placement) {
  std::size_t sum = 0;
  for (std::size_t kind = 0; kind < job.kinds.size(); ++kind) sum += placement.bytes(job, kind, Tier::nvme);
  return sum;
}

std::size_t all_bytes(const Ledger& ledger) {
  return ledger.peak(Tier::device) + ledger.peak(Tier::host) + ledger.peak(Tier::nvme);
}

/// What a GPU's budget lacks. Nothing without one: there all tiers but nvme are one memory.
std::size_t lacking_on_device(const JobFacts& job, const Budgets& budgets, const Ledger& ledger) {
  const std::size_t needed = ledger.peak(Tier::device);
  if (!job.gpu.present || !budgets.device) return 0;
  return needed - std::min(needed, *budgets.device);
}

/// Not the last shape in any case: several groups need sums that one group does not, and residuals in host memory places besides.
Candidate smallest_candidate(const JobFacts& job, const Budgets& budgets) {
  const auto size = [&](const Candidate& candidate) {
    return std::pair(lacking_on_device(job, budgets, candidate.ledger), all_bytes(candidate.ledger));
  };
  std::optional<Candidate> smallest;
  for (const Shape& shape : shapes(job))
    if (Candidate candidate = place(job, budgets, shape); !smallest || size(candidate) < size(*smallest))
      smallest = std::move(candidate);
  return std::move(*smallest);
}

/// What a step moves away from the device and back.
std::size_t bytes_moved(const JobFacts& job, const Candidate& candidate) {
  const std::vector<std::size_t> residuals = host_stage_bytes(job, candidate.shape);
  return candidate.placement.bytes_outside(job) +
         static_cast<std::size_t>(job.program.micro_batches) *
             std::accumulate(residuals.begin(), residuals.end(), std::size_t{0});
}

/// Shapes with residuals in host memory, where the plan decides: they are worth it for what then stays on the device. As few as show the
/// way, eighths of what there is and halves of the group.
void add_host_shapes(std::vector<Shape>& all, const JobFacts& job, int largest_group) {
  constexpr int kParts = 8;
  const int stages = static_cast<int>(job.kept_bytes.size());
  const int again = stages_again(job, stages);
  const auto add = [&](const Shape& shape) {
    // Fewer than there would be places for leave no memory.
    const bool worth = shape.group_size * shape.host_stages > residual_places(shape.group_size, shape.host_stages);
    if (worth && std::ranges::find(all, shape) == all.end()) all.push_back(shape);
  };
  for (int part = 1; part <= kParts; ++part) add({1, stages, again * part / kParts});
  for (int part = kParts - 1; part >= 1; --part) {
    const int first = stages * part / kParts;
    add({1, first, stages_again(job, first)});
  }
  for (int group = largest_group; group > 1; group /= 2) add({group, stages, again});
}

}  // namespace

std::vector<std::size_t> Plan::stage_bytes(const JobFacts& job) const { return plan::stage_bytes(job, shape()); }

std::vector<std::size_t> Plan::host_stage_bytes(const JobFacts& job) const {
  return plan::host_stage_bytes(job, shape());
}

std::vector<Shape> shapes(const JobFacts& job) {
  const int largest_group = std::max(1, std::min(job.program.group_size, job.program.micro_batches));
  const int stages = static_cast<int>(job.kept_bytes.size());
  std::vector<Shape> all;
  const bool again = job.checkpointing == Checkpointing::on || job.checkpointing == Checkpointing::host;
  const int kept = again ? stages : 0;
  const int on_host = job.checkpointing == Checkpointing::host && job.gpu.present ? stages_again(job, stages) : 0;
  // Smaller groups cost less than running stages again.
  for (int group = largest_group; group >= 1; --group) all.push_back({group, kept, on_host});
  if (job.checkpointing == Checkpointing::as_needed) {
    for (int first = 1; first <= stages; ++first)
      if (job.recomputed_bytes[static_cast<std::size_t>(first) - 1] <
          job.kept_bytes[static_cast<std::size_t>(first) - 1])
        all.push_back({1, first});
    if (job.gpu.present) add_host_shapes(all, job, largest_group);
  }
  return all;
}

Candidate place(const JobFacts& job, const Budgets& budgets, const Shape& shape) {
  return place(job, budgets, shape, usual_cpu_share(job));
}

Candidate place(const JobFacts& every_shape, const Budgets& budgets, const Shape& shape, const CpuShare& share) {
  JobFacts job = every_shape;
  if (several_groups(job, shape) && job.kinds.size() > kGradientKind) {
    // Sums over groups are in device memory, and come to rest after the last.
    job.kinds[kGradientKind].wish.reset();
    job.kinds[kGradientKind].leaves = 0;
  }
  Placement placement = place_shared(job, room_for_state(job, budgets, shape), share);
  Ledger ledger = make_ledger(job, shape, placement);
  std::string missing = shortage(ledger, budgets, !job.gpu.present);
  return {shape, std::move(placement), std::move(ledger), std::move(missing)};
}

std::vector<Candidate> candidates(const JobFacts& job, const Budgets& budgets) {
  std::vector<Candidate> fitting;
  for (const Shape& shape : shapes(job))
    if (Candidate candidate = place(job, budgets, shape); candidate.shortage.empty())
      fitting.push_back(std::move(candidate));
  return fitting;
}

Plan plan_of(const JobFacts& job, Candidate candidate) {
  ProgramFacts facts = job.program;
  facts.group_size = candidate.shape.group_size;
  return {make_step_program(facts), std::move(candidate.ledger), std::move(candidate.placement),
          candidate.shape.first_kept_stage, candidate.shape.host_stages};
}

Plan make_plan(const JobFacts& job, const Budgets& budgets) {
  std::vector<Candidate> fitting = candidates(job, budgets);
  if (fitting.empty()) {
    const Candidate smallest = smallest_candidate(job, budgets);
    throw PlanError(fmt::format("the plan does not fit: {}\n{}{}{}", smallest.shortage, smallest.ledger.text(),
                                gradients_note(job, smallest.shape),
                                budgets_that_fit(budgets, !job.gpu.present, [&](const Budgets& other) {
                                  return place(job, other, smallest.shape).shortage.empty();
                                })));
  }
  const auto distance = [&](const Candidate& candidate) {
    return std::pair(bytes_moved(job, candidate), bytes_on_nvme(job, candidate.placement));
  };
  // The first of several that are as near: shapes() begins with those that do the least work.
  return plan_of(job, std::move(*std::ranges::min_element(fitting, {}, distance)));
}

}  // namespace spillway::plan
