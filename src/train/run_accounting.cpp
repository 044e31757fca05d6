// SPDX-License-Identifier: Apache-2.0
#include "train/run_accounting.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace spillway::train {
namespace {

using nlohmann::ordered_json;

struct ActivityName {
  Activity activity;
  const char* name;   // as in metrics.jsonl
  const char* words;  // for people; of a stall: what it waits for
};
constexpr std::array<ActivityName, kActivities> kActivityNames = {{{Activity::compute, "compute", "computing"},
                                                                   {Activity::data, "data", "making batches"},
                                                                   {Activity::h2d, "h2d", "copies to the GPU"},
                                                                   {Activity::d2h, "d2h", "copies from the GPU"},
                                                                   {Activity::nvme, "nvme", "drives"},
                                                                   {Activity::collective, "collective", "other ranks"},
                                                                   {Activity::cpu_update, "cpu_update", "updates"},
                                                                   {Activity::checkpoint, "checkpoint", "saves"}}};
constexpr std::size_t kFirstStall = 2;  // of kActivityNames

const ActivityName& name_of(Activity activity) {
  return *std::ranges::find(kActivityNames, activity, &ActivityName::activity);
}

void add_times(std::optional<double>& sum, const std::optional<double>& value, double times) {
  if (value) sum = sum.value_or(0.0) + times * *value;
}

std::string seconds_text(const std::optional<double>& seconds) {
  return seconds ? fmt::format("{:.3f} s", *seconds) : std::string("-");
}
std::string size_text(const std::optional<double>& bytes) {
  return bytes ? plan::bytes_text(static_cast<std::size_t>(*bytes)) : std::string("-");
}
std::optional<double> as_double(const std::optional<std::size_t>& bytes) {
  return bytes ? std::optional(static_cast<double>(*bytes)) : std::nullopt;
}

std::string row(const std::string& what, const std::string& planned, const std::string& measured,
                const std::optional<double>& ratio = {}) {
  const std::string off = ratio ? fmt::format("  {:+.1f} %", 100.0 * (*ratio - 1.0)) : std::string();
  return fmt::format("  {:<28} {:>12} {:>12}{}\n", what, planned, measured, off);
}

/// \param planned  0: nothing was
std::optional<double> ratio_of(const std::optional<double>& measured, double planned) {
  if (!measured || planned <= 0.0) return std::nullopt;
  return *measured / planned;
}

/// What of a resource was planned, if anything was, or measured.
std::string rows(const std::string& words, const plan::ResourceUse& plan, bool known, const MeasuredUse& use) {
  std::string text;
  if (plan.busy_seconds > 0.0 || use.busy_seconds)
    text += row(words, plan.busy_seconds > 0.0 ? seconds_text(plan.busy_seconds) : "-", seconds_text(use.busy_seconds));
  if (plan.bytes > 0.0 || use.bytes.value_or(0.0) > 0.0)
    text += row(words, known ? size_text(plan.bytes) : "-", size_text(use.bytes), ratio_of(use.bytes, plan.bytes));
  return text;
}

}  // namespace

void RunAccounting::add(const StepMetrics& metrics) {
  if (++lines_ == 2) {
    steps_ = 0;
    seconds_ = 0.0;
    clock_.reset();
    for (MeasuredUse& use : resources_.uses) use.busy_seconds.reset();
  }
  const auto steps = static_cast<double>(metrics.steps);
  steps_ += metrics.steps;
  all_steps_ += metrics.steps;
  seconds_ += steps * metrics.seconds_per_step;
  for (const ActivityName& each : kActivityNames) clock_.add(each.activity, metrics.clock.seconds(each.activity));
  for (std::size_t i = 0; i < plan::kResources; ++i) {
    add_times(resources_.uses[i].busy_seconds, metrics.resources.uses[i].busy_seconds, steps);
    add_times(resources_.uses[i].bytes, metrics.resources.uses[i].bytes, steps);
  }
  if (metrics.taken_device_bytes) device_bytes_ = std::max(device_bytes_.value_or(0), *metrics.taken_device_bytes);
  host_bytes_ = std::max(host_bytes_, metrics.peak_host_bytes);
}

RunAccounting::Memory RunAccounting::device_memory() const {
  return {.planned = job_.on_gpu ? job_.plan.ledger.peak(plan::Tier::device) : 0, .measured = device_bytes_};
}

RunAccounting::Memory RunAccounting::host_memory() const {
  const plan::Ledger& ledger = job_.plan.ledger;
  std::size_t planned = 0;
  for (const plan::Phase phase : {plan::Phase::step, plan::Phase::evaluation, plan::Phase::save})
    planned = std::max(
        planned, ledger.total(plan::Tier::host, phase) + (job_.on_gpu ? 0 : ledger.total(plan::Tier::device, phase)));
  return {.planned = planned, .measured = host_bytes_};
}

MeasuredUse RunAccounting::of_step(const MeasuredUse& all) const {
  MeasuredUse use;
  if (all.busy_seconds) use.busy_seconds = of_step(*all.busy_seconds);
  if (all.bytes) use.bytes = *all.bytes / static_cast<double>(all_steps_);
  return use;
}

Activity RunAccounting::most_time_in() const {
  return std::ranges::max_element(kActivityNames, {},
                                  [this](const ActivityName& each) { return clock_.seconds(each.activity); })
      ->activity;
}

std::string RunAccounting::row_of(const char* name, const Memory& memory) {
  if (memory.planned == 0) return {};
  return row(name, plan::bytes_text(memory.planned), size_text(as_double(memory.measured)),
             ratio_of(as_double(memory.measured), static_cast<double>(memory.planned)));
}

std::string RunAccounting::text() const {
  const bool known = job_.prediction.has_value();
  const plan::Prediction planned = job_.prediction.value_or(plan::Prediction());
  std::string text = fmt::format("where a step's time and bytes went, the mean of {} steps:\n", steps_);
  text += row("", "planned", "measured");
  const double seconds = of_step(seconds_);
  text += row("a step", known ? seconds_text(planned.seconds) : "-", seconds_text(seconds),
              ratio_of(seconds, planned.seconds));
  for (std::size_t i = 0; i < plan::kResources; ++i)
    text +=
        rows(plan::words_of(static_cast<plan::Resource>(i)), planned.resources[i], known, of_step(resources_.uses[i]));
  text += row_of("most device memory", device_memory());
  text += row_of("most host memory", host_memory());
  std::string waits;
  for (std::size_t i = kFirstStall; i < kActivities; ++i)
    if (const double waited = of_step(clock_.seconds(kActivityNames[i].activity)); waited >= 0.0005)
      waits += fmt::format("{}{} {:.3f} s", waits.empty() ? "" : ", ", kActivityNames[i].words, waited);
  text += fmt::format("  computing waits for: {}\n", waits.empty() ? "nothing" : waits);
  text += fmt::format("  most of the time: {}", name_of(most_time_in()).words);
  if (known) text += fmt::format("; busiest in the plan: {}", plan::words_of(planned.bound()));
  return text;
}

std::string RunAccounting::json() const {
  const auto add_memory = [](ordered_json& to, const char* name, const Memory& memory) {
    if (memory.planned == 0) return;
    ordered_json& entry = to["memory_bytes"][name] = {{"planned", memory.planned}};
    if (memory.measured) entry["measured"] = *memory.measured;
  };
  const bool known = job_.prediction.has_value();
  const plan::Prediction planned = job_.prediction.value_or(plan::Prediction());
  ordered_json object = {{"steps", steps_}};
  if (known) object["seconds_per_step"]["planned"] = planned.seconds;
  object["seconds_per_step"]["measured"] = of_step(seconds_);
  ordered_json& resources = object["resources"] = ordered_json::object();
  for (std::size_t i = 0; i < plan::kResources; ++i) {
    const MeasuredUse use = of_step(resources_.uses[i]);
    ordered_json measured = ordered_json::object(), plan = ordered_json::object();
    if (use.busy_seconds) measured["busy_seconds"] = *use.busy_seconds;
    if (use.bytes) measured["bytes"] = *use.bytes;
    if (planned.resources[i].busy_seconds > 0.0)
      plan = {{"busy_seconds", planned.resources[i].busy_seconds}, {"bytes", planned.resources[i].bytes}};
    if (!measured.empty() || !plan.empty())
      resources[plan::name_of(static_cast<plan::Resource>(i))] = {{"planned", plan}, {"measured", measured}};
  }
  ordered_json& stalls = object["stall_seconds"] = ordered_json::object();
  for (std::size_t i = kFirstStall; i < kActivities; ++i)
    stalls[kActivityNames[i].name] = of_step(clock_.seconds(kActivityNames[i].activity));
  add_memory(object, "device", device_memory());
  add_memory(object, "host", host_memory());
  if (known) object["bound_by"] = plan::name_of(planned.bound());
  object["most_time_in"] = name_of(most_time_in()).name;
  return object.dump();
}

}  // namespace spillway::train
