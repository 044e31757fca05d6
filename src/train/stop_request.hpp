// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <chrono>
#include <string_view>

#include <signal.h>

namespace spillway::train {

enum class StopReason { none, signal, time_limit };

/// Why the run stops, for the log: "a signal", "train.time_limit".
[[nodiscard]] std::string_view name_of(StopReason reason) noexcept;

/// Notices that somebody wants the run to stop: SIGTERM and SIGUSR1 are remembered from construction to destruction
/// instead of ending the process. One at a time in a process. It only answers for its own rank: the launcher may signal
/// one rank alone, so the trainer asks all ranks and stops if any has a reason.
class StopRequest {
 public:
  /// \param time_limit  counted from `start`, when the program started; 0: none. \throws IoError
  StopRequest(std::chrono::seconds time_limit, std::chrono::steady_clock::time_point start);
  ~StopRequest();
  StopRequest(const StopRequest&) = delete;
  StopRequest& operator=(const StopRequest&) = delete;

  /// \param time_to_stop  what another step, and saving after it, will take: the limit is met before it has passed
  [[nodiscard]] StopReason reason(std::chrono::duration<double> time_to_stop) const noexcept;

 private:
  std::array<struct sigaction, 2> saved_ = {};
  std::chrono::seconds time_limit_;
  std::chrono::steady_clock::time_point start_;
};

}  // namespace spillway::train
