// SPDX-License-Identifier: Apache-2.0
#include "train/stop_request.hpp"

#include <array>
#include <atomic>
#include <cerrno>
#include <string>

#include <signal.h>

#include "core/error.hpp"

namespace spillway::train {
namespace {

constexpr std::array kSignals = {SIGTERM, SIGUSR1};

// A handler reaches nothing but globals; lock-free atomics are what it may touch while other threads read.
std::atomic<bool> signal_arrived{false};
static_assert(std::atomic<bool>::is_always_lock_free);

void remember(int) { signal_arrived.store(true, std::memory_order_relaxed); }

}  // namespace

std::string_view name_of(StopReason reason) noexcept {
  switch (reason) {
    case StopReason::none: return "nothing";
    case StopReason::signal: return "a signal";
    case StopReason::time_limit: return "train.time_limit";
  }
  return "nothing";
}

StopRequest::StopRequest(std::chrono::seconds time_limit, std::chrono::steady_clock::time_point start)
    : time_limit_(time_limit), start_(start) {
  signal_arrived = false;
  struct sigaction action = {};
  action.sa_handler = remember;
  action.sa_flags = SA_RESTART;  // reads and writes in flight go on
  sigemptyset(&action.sa_mask);
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    if (sigaction(kSignals[i], &action, &saved_[i]) != 0) {
      throw IoError("cannot handle signal " + std::to_string(kSignals[i]), errno);
    }
  }
}

StopRequest::~StopRequest() {
  for (std::size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &saved_[i], nullptr);
}

StopReason StopRequest::reason(std::chrono::duration<double> time_to_stop) const noexcept {
  if (signal_arrived.load(std::memory_order_relaxed)) return StopReason::signal;
  const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start_;
  if (time_limit_.count() > 0 && passed + time_to_stop >= time_limit_) return StopReason::time_limit;
  return StopReason::none;
}

}  // namespace spillway::train
