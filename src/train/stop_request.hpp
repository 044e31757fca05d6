// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <chrono>
#include <optional>
#include <string_view>

#include <signal.h>

#include "train/slurm_job.hpp"

namespace spillway::train {

enum class StopReason { none, signal, time_limit, job_end };

/// Why the run stops, for the log: "a signal", "train.time_limit", "the end of the Slurm job".
[[nodiscard]] std::string_view name_of(StopReason reason) noexcept;

/// When a run has to be over.
struct StopLimits {
  std::chrono::seconds time_limit{0};           // counted from `start`; 0: none
  std::chrono::steady_clock::time_point start;  // of the program
  SlurmJob slurm = {};                          // its end, too
};

/// Notices that somebody wants the run to stop: SIGTERM, SIGINT and SIGUSR1 are remembered from construction to destruction
/// instead of ending the process. A second SIGTERM or SIGINT ends it at once, as if nobody handled them; what arrives within
/// a quarter of a second of the first is the same one, delivered by the scheduler and passed on by the launcher.
/// One at a time in a process. It only answers for its own rank: the launcher may signal
/// one rank alone, so the trainer asks all ranks and stops if any has a reason.
class StopRequest {
 public:
  /// From now on SIGUSR1 is remembered for the first StopRequest to come instead of ending the process: a batch script passes it on
  /// while the ranks are still starting. \throws IoError
  static void expect_warnings();

  /// \throws IoError
  explicit StopRequest(const StopLimits& limits);
  ~StopRequest();
  StopRequest(const StopRequest&) = delete;
  StopRequest& operator=(const StopRequest&) = delete;

  /// \param time_to_stop  what another step, and saving after it, will take: the limits are met before it has passed
  [[nodiscard]] StopReason reason(std::chrono::duration<double> time_to_stop) const noexcept;
  [[nodiscard]] const SlurmJob& slurm() const noexcept { return limits_.slurm; }

 private:
  std::array<struct sigaction, 3> saved_ = {};
  StopLimits limits_;
  std::optional<std::chrono::steady_clock::time_point> job_end_;
};

}  // namespace spillway::train
