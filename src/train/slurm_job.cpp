// SPDX-License-Identifier: Apache-2.0
#include "train/slurm_job.hpp"

#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include <fmt/format.h>

#include "core/error.hpp"

namespace spillway::train {
namespace {

constexpr const char* kEnd = "SLURM_JOB_END_TIME";
constexpr const char* kSignal = "SPILLWAY_SIGNAL_SECONDS";
// Beyond it there is no end: Slurm's own marks for "unlimited" are 2^32 - 1 and 2^64 - 1, and both are past it.
constexpr std::int64_t kLatest = 4'000'000'000;

std::optional<std::int64_t> seconds_in(const char* name, const char* text) {
  if (text == nullptr || *text == '\0') return std::nullopt;
  const std::string_view all = text;
  std::int64_t seconds = 0;
  const auto [end, error] = std::from_chars(all.data(), all.data() + all.size(), seconds);
  if (error == std::errc::result_out_of_range) return kLatest;
  if (error != std::errc() || end != all.data() + all.size() || seconds < 0)
    throw ConfigError(fmt::format("{} = \"{}\": expected a whole number of seconds", name, all));
  return seconds;
}

}  // namespace

SlurmJob slurm_job(const char* end_time, const char* signal_seconds) {
  SlurmJob job;
  const auto end = seconds_in(kEnd, end_time);
  if (end && *end > 0 && *end < kLatest) job.end = std::chrono::system_clock::time_point(std::chrono::seconds(*end));
  if (const auto lead = seconds_in(kSignal, signal_seconds)) job.signal_lead = std::chrono::seconds(*lead);
  return job;
}

SlurmJob this_slurm_job() { return slurm_job(std::getenv(kEnd), std::getenv(kSignal)); }

std::optional<std::chrono::steady_clock::time_point> steady_end(const SlurmJob& job,
                                                                std::chrono::system_clock::time_point now) {
  if (!job.end || *job.end <= now) return std::nullopt;
  return std::chrono::steady_clock::now() +
         std::chrono::duration_cast<std::chrono::steady_clock::duration>(*job.end - now);
}

std::string late_signal(const SlurmJob& job, double needed_seconds) {
  if (!job.signal_lead || needed_seconds <= static_cast<double>(job.signal_lead->count())) return {};
  return fmt::format(
      "a stop takes about {:.0f} s, a step and a save, but Slurm's signal comes {} s before the end: use "
      "--signal=B:USR1@{:.0f}",
      std::ceil(needed_seconds), job.signal_lead->count(), std::ceil(1.5 * needed_seconds));
}

}  // namespace spillway::train
