// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <mutex>
#include <thread>
#include <vector>

#include "kernels/cpu/thread_placement.hpp"

namespace spillway::kernels::cpu {

/// A rank's compute threads. Several threads may call parallel_for at once: each works on its own loop, the pool's workers help
/// whoever has tasks left.
class ThreadPool {
 public:
  /// \param threads  that work on one loop, the caller included; at least 1, 1 makes no worker
  /// \throws Error (exit 5) if the system does not give that many
  explicit ThreadPool(int threads) : ThreadPool(ThreadPlacement{.threads = threads, .cpus = {}, .text = {}}) {}
  /// Binds the workers as `placement` says. Callers are not bound: the first thread's CPUs are left for whoever calls. Threads with
  /// CPUs of their own wait awake for some tens of microseconds before they sleep, for a loop often follows at once.
  explicit ThreadPool(const ThreadPlacement& placement);
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  ~ThreadPool();

  [[nodiscard]] int threads() const noexcept { return static_cast<int>(workers_.size()) + 1; }
  /// Calls task(0) ... task(count - 1), each once, in any order on any thread; returns when all are done. What a task may compute
  /// must depend on its number only, never on the thread, so that results do not depend on the pool's size.
  /// \throws what the first failing task threw
  void parallel_for(std::int64_t count, const std::function<void(std::int64_t)>& task);

 private:
  struct Loop;
  void work();
  void stop();
  static bool run_one(Loop& loop, std::unique_lock<std::mutex>& lock);
  void announce_change();
  void wait_for_change(std::unique_lock<std::mutex>& lock);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::atomic<std::uint64_t> changes_ = 0;  // written under the mutex, looked at without it by who waits awake
  int looks_ = 0;                           // at changes_ before a thread sleeps
  std::list<Loop*> loops_;
  bool closing_ = false;
  std::vector<std::thread> workers_;
};

}  // namespace spillway::kernels::cpu
