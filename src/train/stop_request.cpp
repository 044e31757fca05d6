// SPDX-License-Identifier: Apache-2.0
#include "train/stop_request.hpp"

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <string>

#include <time.h>
#include <unistd.h>

#include "core/error.hpp"

namespace spillway::train {
namespace {

constexpr std::array kSignals = {SIGTERM, SIGINT, SIGUSR1};
constexpr std::int64_t kSameSignal = 250'000'000;  // nanoseconds

// A handler reaches nothing but globals; lock-free atomics are what it may touch while other threads read.
std::atomic<bool> signal_arrived{false};
std::atomic<std::int64_t> first_order{0};  // when the first SIGTERM or SIGINT came; 0: none yet
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<std::int64_t>::is_always_lock_free);

std::int64_t nanoseconds() noexcept {
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);  // one of the few calls that a handler may make
  return static_cast<std::int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

/// By the signal's own default action, once the handler has returned.
void leave(int signal_number) noexcept {
  constexpr std::string_view kWords =
      "asked a second time to stop: leaving at once, without a checkpoint of this step\n";
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, kWords.data(), kWords.size());
  signal(signal_number, SIG_DFL);
  raise(signal_number);
}

void remember(int signal_number) {
  const int error = errno;
  signal_arrived.store(true, std::memory_order_relaxed);
  if (signal_number != SIGUSR1) {
    const std::int64_t now = nanoseconds();
    std::int64_t first = 0;
    if (!first_order.compare_exchange_strong(first, now) && now - first > kSameSignal) leave(signal_number);
  }
  errno = error;
}

void handle(int signal_number, struct sigaction* before) {
  struct sigaction action = {};
  action.sa_handler = remember;
  action.sa_flags = SA_RESTART;  // reads and writes in flight go on
  sigemptyset(&action.sa_mask);
  if (sigaction(signal_number, &action, before) != 0)
    throw IoError("cannot handle signal " + std::to_string(signal_number), errno);
}

}  // namespace

std::string_view name_of(StopReason reason) noexcept {
  switch (reason) {
    case StopReason::none: return "nothing";
    case StopReason::signal: return "a signal";
    case StopReason::time_limit: return "train.time_limit";
    case StopReason::job_end: return "the end of the Slurm job";
  }
  return "nothing";
}

void StopRequest::expect_warnings() { handle(SIGUSR1, nullptr); }

StopRequest::StopRequest(const StopLimits& limits)
    : limits_(limits), job_end_(steady_end(limits.slurm, std::chrono::system_clock::now())) {
  for (std::size_t i = 0; i < kSignals.size(); ++i) handle(kSignals[i], &saved_[i]);
}

StopRequest::~StopRequest() {
  signal_arrived = false;
  first_order = 0;
  for (std::size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &saved_[i], nullptr);
}

StopReason StopRequest::reason(std::chrono::duration<double> time_to_stop) const noexcept {
  if (signal_arrived.load(std::memory_order_relaxed)) return StopReason::signal;
  const auto now = std::chrono::steady_clock::now();
  const std::chrono::duration<double> passed = now - limits_.start;
  if (limits_.time_limit.count() > 0 && passed + time_to_stop >= limits_.time_limit) return StopReason::time_limit;
  if (job_end_ && time_to_stop >= *job_end_ - now) return StopReason::job_end;
  return StopReason::none;
}

}  // namespace spillway::train
