// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <optional>
#include <string>

namespace spillway::train {

/// What Slurm and the batch script tell a job about its end.
struct SlurmJob {
  /// SLURM_JOB_END_TIME: Slurm sets it since 23.02, jobs/train.sbatch before that.
  std::optional<std::chrono::system_clock::time_point> end;
  /// SPILLWAY_SIGNAL_SECONDS: the number in --signal=B:USR1@SECONDS, which Slurm tells no job; jobs/train.sbatch does.
  std::optional<std::chrono::seconds> signal_lead;
};

/// Out of the two variables; null: not set. \throws ConfigError if one is no whole number of seconds
[[nodiscard]] SlurmJob slurm_job(const char* end_time, const char* signal_seconds);
/// Of this process's environment.
[[nodiscard]] SlurmJob this_slurm_job();

/// The job's end on the clock that does not jump; nothing if none is known, or if it has passed, as in an environment that outlived its
/// job. \param now  the time
[[nodiscard]] std::optional<std::chrono::steady_clock::time_point> steady_end(
    const SlurmJob& job, std::chrono::system_clock::time_point now);

/// What to say if Slurm's signal comes too late for a stop that takes `needed_seconds`; empty if it does not.
[[nodiscard]] std::string late_signal(const SlurmJob& job, double needed_seconds);

}  // namespace spillway::train
