// SPDX-License-Identifier: Apache-2.0
#include "train/plan_report.hpp"

#include <cstdint>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "train/plan_file.hpp"
#include "train/slurm_job.hpp"

namespace spillway::train {
namespace {

using nlohmann::ordered_json;

/// What a checkpoint holds of every parameter is in fp32, whatever it is in memory; Adafactor's rows and columns are besides.
double checkpoint_bytes(const Job& job) {
  const double value = sizeof(float);
  const double all = value * static_cast<double>(job.map->parameters());
  if (job.adafactor) return all + static_cast<double>(job.adafactor->mean_bytes());
  return all + 2.0 * value * static_cast<double>(job.trainable_map->parameters());
}

ordered_json optional_json(const std::optional<double>& value) {
  return value ? ordered_json(*value) : ordered_json(nullptr);
}

std::string bytes_of(double bytes) { return plan::bytes_text(static_cast<std::size_t>(bytes)); }

}  // namespace

PlanReport report_of(const Job& job) {
  PlanReport report{.checkpoint_bytes = checkpoint_bytes(job)};
  if (!job.profile || !job.profile->nvme) return report;
  const plan::NvmeProfile& drives = *job.profile->nvme;
  report.save_seconds = report.checkpoint_bytes / job.nodes.nodes() / drives.write_rate;
  if (!job.prediction) return report;
  report.lead_seconds = job.prediction->seconds + *report.save_seconds;
  report.late_signal = late_signal(this_slurm_job(), *report.lead_seconds);
  const double a_day = job.prediction->nvme_bytes_a_day(job.costs.ranks_on_node);
  if (a_day <= 0.0) return report;
  report.nvme_bytes_a_day = a_day;
  if (drives.endurance_bytes > 0) report.endurance_days = static_cast<double>(drives.endurance_bytes) / a_day;
  return report;
}

std::string prediction_text(const Job& job) {
  if (!job.prediction)
    return "a step: not predicted, since this machine's rates are not known; `spillway doctor` measures them\n";
  const plan::Prediction& step = *job.prediction;
  std::string text = fmt::format("a step on {}: {:.3f} s, {:.1f} samples/s; busiest: {}, {:.3f} s\n", job.profile->name,
                                 step.seconds, static_cast<double>(job.global_batch_size) / step.seconds,
                                 plan::words_of(step.bound()), step.bound_seconds);
  if (const std::optional<double> share = predicted_utilization(job))
    text += fmt::format("  {:.1f} % of the GPU's products\n", 100.0 * *share);
  if (step.waiting_seconds > 0.0)
    text += fmt::format("  {:.3f} s of it the compute queue waits for updates, weights, reductions and residuals\n",
                        step.waiting_seconds);
  for (std::size_t i = 0; i < plan::kResources; ++i) {
    const plan::ResourceUse& use = step.resources[i];
    if (use.busy_seconds <= 0.0) continue;
    text += fmt::format("  {:<28} {:>8.3f} s", plan::words_of(static_cast<plan::Resource>(i)), use.busy_seconds);
    text += use.bytes > 0.0 ? fmt::format(" {:>12}\n", bytes_of(use.bytes)) : std::string("\n");
  }
  return text;
}

std::string report_text(const PlanReport& report, const DataOptions& data) {
  std::string text = fmt::format("largest batch of {} + {} tokens: ", data.max_source_length, data.max_target_length);
  if (report.largest.samples == 0) text += "not even one sample fits\n";
  else if (report.largest.seconds)
    text += fmt::format("{} samples a micro-batch, {:.3f} s a step\n", report.largest.samples, *report.largest.seconds);
  else text += fmt::format("{} samples a micro-batch\n", report.largest.samples);
  text += fmt::format("a checkpoint: {}", bytes_of(report.checkpoint_bytes));
  if (report.save_seconds) text += fmt::format(", {:.1f} s on the profile's drives", *report.save_seconds);
  if (report.lead_seconds)
    text += fmt::format("; a job that is to be stopped needs a signal {:.0f} s before", *report.lead_seconds + 1.0);
  text += "\n";
  if (!report.late_signal.empty()) text += fmt::format("warning: {}\n", report.late_signal);
  if (report.nvme_bytes_a_day) {
    text += fmt::format("drives: {:.1f} TB written a day", *report.nvme_bytes_a_day / 1e12);
    text += report.endurance_days
                ? fmt::format("; their endurance lasts {:.0f} days of training\n", *report.endurance_days)
                : std::string("; their endurance is not known\n");
  }
  return text;
}

std::string report_json(const std::string& plan, const PlanReport& report) {
  ordered_json object = ordered_json::parse(plan);
  object["largest_batch"] = {{"per_device_train_batch_size", report.largest.samples},
                             {"seconds_per_step", optional_json(report.largest.seconds)}};
  object["checkpoint"] = {{"bytes", static_cast<std::uint64_t>(report.checkpoint_bytes)},
                          {"save_seconds", optional_json(report.save_seconds)},
                          {"lead_seconds", optional_json(report.lead_seconds)}};
  object["drives"] = {{"bytes_written_per_day", optional_json(report.nvme_bytes_a_day)},
                      {"endurance_days", optional_json(report.endurance_days)}};
  return object.dump(2) + "\n";
}

}  // namespace spillway::train
