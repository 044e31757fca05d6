// SPDX-License-Identifier: Apache-2.0
#include "train/job_batches.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include "core/error.hpp"
#include "plan/fastest.hpp"
#include "train/batches.hpp"
#include "train/generation_settings.hpp"
#include "train/job_costs.hpp"
#include "train/job_facts.hpp"

namespace spillway::train {
namespace {

/// A micro-batch of sequences that are as long as they may be.
model::BatchLimits longest(const DataOptions& data, std::int64_t samples) {
  return {.sequences = samples,
          .source_rows = samples * data.max_source_length,
          .target_rows = samples * data.max_target_length};
}

/// The plan with so many samples a micro-batch, if it fits.
std::optional<plan::Plan> plan_with(Job& job, std::int64_t samples, const PlannedMachine& machine) {
  job.options.train.per_device_train_batch_size = samples;
  try {
    size_batches(job, {});
    job.facts = facts_of(job, machine);
    return plan::make_plan(job.facts, job.budgets);
  } catch (const Error& error) {
    if (error.exit_code() != ExitCode::plan) throw;
    return std::nullopt;
  }
}

/// The largest of [1, too_many) that fits; 0: none.
std::int64_t largest_below(std::int64_t too_many, std::int64_t fit, Job& job, const PlannedMachine& machine) {
  while (too_many - fit > 1) {
    const std::int64_t middle = fit + (too_many - fit) / 2;
    (plan_with(job, middle, machine) ? fit : too_many) = middle;
  }
  return fit;
}

}  // namespace

void size_batches(Job& job, const GenerateLimits& generate) {
  const int ranks = job.map->ranks();
  const RunOptions& o = job.options;
  if (job.purpose == Purpose::train) {
    // What the planner is going to choose begins with the least.
    const std::int64_t per_device = std::max<std::int64_t>(o.train.per_device_train_batch_size, 1);
    const std::int64_t accumulated = per_device * o.train.gradient_accumulation_steps * ranks;
    job.global_batch_size = o.train.global_batch_size > 0 ? o.train.global_batch_size : accumulated;
    // A global batch of its own decides how many micro-batches of at most per_device samples each rank runs.
    job.micro_batches = static_cast<int>((job.global_batch_size + per_device * ranks - 1) / (per_device * ranks));
    job.gradients.micro_batches = job.micro_batches;
    const std::int64_t slots = static_cast<std::int64_t>(job.micro_batches) * ranks;
    const std::int64_t samples = (job.global_batch_size + slots - 1) / slots;
    job.train_limits = job.train_examples && !job.worst_lengths ? batch_limits(*job.train_examples, samples)
                                                                : longest(o.data, samples);
    job.total_steps = o.train.max_steps;
    if (job.train_examples && o.train.max_steps == 0) {
      const std::int64_t steps_per_epoch =
          (job.train_examples->size() + job.global_batch_size - 1) / job.global_batch_size;
      job.total_steps =
          static_cast<std::int64_t>(std::ceil(o.train.num_train_epochs * static_cast<double>(steps_per_epoch)));
    }
    job.pass = {.dropout = static_cast<float>(o.model.dropout_rate < 0.0 ? job.source.config.dropout_rate
                                                                         : o.model.dropout_rate),
                .label_smoothing = static_cast<float>(o.train.label_smoothing_factor)};
  }
  if (job.eval_examples) {
    job.eval_limits = batch_limits(*job.eval_examples, o.eval.per_device_eval_batch_size);
    if (o.eval.predict_with_generate) job.generation.items = job.eval_limits.sequences;
  } else if (job.purpose == Purpose::generate) {
    job.generation.items = generate.batch;
    job.eval_limits = {.sequences = generate.batch,
                       .source_rows = generate.batch * generate.longest_source,
                       .target_rows = generate.batch};
  }
  job.generation.source_rows = job.eval_limits.source_rows;
  if (job.generation.items == 0) return;
  EvalOptions eval = o.eval;
  if (job.purpose != Purpose::generate) eval.num_return_sequences = 1;  // metrics are about the best one
  job.generation.options = generation_options(eval, job.source);
}

std::int64_t fastest_batch(Job& job, const PlannedMachine& machine) {
  constexpr int kLookedAt = 8;
  std::int64_t best = 0, last = 0;
  double shortest = std::numeric_limits<double>::infinity();
  const std::int64_t of_rank = (job.global_batch_size + job.map->ranks() - 1) / job.map->ranks();
  int fitting = 0;
  for (std::int64_t count = 1; count <= of_rank && fitting < kLookedAt; ++count) {
    const std::int64_t samples = (of_rank + count - 1) / count;
    if (std::exchange(last, samples) == samples || !plan_with(job, samples, machine)) continue;
    ++fitting;
    job.costs = costs_of(job);
    const plan::PredictedPlan chosen =
        plan::fastest_plan(job.facts, job.budgets, job.costs, job.profile ? &*job.profile : nullptr);
    if (!chosen.prediction) return samples;
    if (chosen.prediction->seconds >= shortest) continue;
    shortest = chosen.prediction->seconds;
    best = samples;
  }
  return std::max<std::int64_t>(best, 1);
}

std::string largest_batch_note(Job& job, const PlannedMachine& machine) {
  const std::int64_t fit = largest_below(job.options.train.per_device_train_batch_size, 0, job, machine);
  if (fit == 0) return "not even train.per_device_train_batch_size = 1 fits\n";
  return fmt::format("the largest train.per_device_train_batch_size that fits is {}\n", fit);
}

LargestBatch largest_batch(Job& job, const PlannedMachine& machine) {
  constexpr std::int64_t kMost = std::int64_t{1} << 20;  // of samples: more than fills any GPU
  job.worst_lengths = true;
  job.options.train.gradient_accumulation_steps = job.micro_batches;
  job.options.train.global_batch_size = 0;
  std::int64_t too_many = 1;
  while (too_many < kMost && plan_with(job, too_many, machine)) too_many *= 2;
  LargestBatch largest{.samples = largest_below(too_many, too_many / 2, job, machine)};
  if (largest.samples == 0) return largest;
  (void)plan_with(job, largest.samples, machine);
  job.costs = costs_of(job);
  const plan::PredictedPlan chosen =
      plan::fastest_plan(job.facts, job.budgets, job.costs, job.profile ? &*job.profile : nullptr);
  if (chosen.prediction) largest.seconds = chosen.prediction->seconds;
  return largest;
}

}  // namespace spillway::train
