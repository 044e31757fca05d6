// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/thread_pool.hpp"

#include <algorithm>
#include <exception>

#include <fmt/format.h>
#include <immintrin.h>

#include "core/error.hpp"
#include "kernels/cpu/cpu_kernels.hpp"

namespace spillway::kernels::cpu {

struct ThreadPool::Loop {
  const std::function<void(std::int64_t)>* task;
  std::int64_t count;
  std::int64_t next = 0;
  std::int64_t done = 0;
  std::exception_ptr error;
};

namespace {

// A sleeping thread runs again some 20 microseconds after it is woken, which is what many loops of a decoder's step take.
constexpr int kLooks = 1000;  // some 40 microseconds

}  // namespace

ThreadPool::ThreadPool(const ThreadPlacement& placement) : looks_(placement.cpus.empty() ? 0 : kLooks) {
  try {
    for (int i = 1; i < placement.threads; ++i) {
      std::vector<int> cpus;
      if (!placement.cpus.empty()) cpus = placement.cpus[static_cast<std::size_t>(i)];
      workers_.emplace_back([this, cpus = std::move(cpus)] {
        // Refused only if the allowed CPUs changed meanwhile; the worker then runs where it may.
        if (!cpus.empty()) (void)bind_this_thread(cpus);
        work();
      });
    }
  } catch (const std::exception& error) {
    stop();
    throw Error(fmt::format("only {} of {} compute threads could be started: {} (OMP_NUM_THREADS sets their number)",
                            workers_.size() + 1, placement.threads, error.what()),
                ExitCode::failure);
  }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() {
  {
    const std::scoped_lock lock(mutex_);
    closing_ = true;
    announce_change();
  }
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::announce_change() {
  changes_.fetch_add(1, std::memory_order_release);
  changed_.notify_all();
}

void ThreadPool::wait_for_change(std::unique_lock<std::mutex>& lock) {
  const std::uint64_t seen = changes_.load(std::memory_order_relaxed);
  lock.unlock();
  for (int look = 0; look < looks_ && changes_.load(std::memory_order_acquire) == seen; ++look) _mm_pause();
  lock.lock();
  changed_.wait(lock, [&] { return changes_.load(std::memory_order_relaxed) != seen; });
}

bool ThreadPool::run_one(Loop& loop, std::unique_lock<std::mutex>& lock) {
  if (loop.next == loop.count) return false;
  const std::int64_t index = loop.next++;
  lock.unlock();
  std::exception_ptr error;
  try {
    (*loop.task)(index);
  } catch (...) {
    error = std::current_exception();
  }
  lock.lock();
  ++loop.done;
  if (error && !loop.error) loop.error = error;
  return true;
}

void ThreadPool::parallel_for(std::int64_t count, const std::function<void(std::int64_t)>& task) {
  if (workers_.empty() || count <= 1) {
    for (std::int64_t i = 0; i < count; ++i) task(i);
    return;
  }
  Loop loop{.task = &task, .count = count, .error = nullptr};
  std::unique_lock lock(mutex_);
  const auto place = loops_.insert(loops_.end(), &loop);
  announce_change();
  while (run_one(loop, lock)) {
  }
  loops_.erase(place);
  while (loop.done != loop.count) wait_for_change(lock);
  lock.unlock();
  if (loop.error) std::rethrow_exception(loop.error);
}

void ThreadPool::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    const auto busy =
        std::find_if(loops_.begin(), loops_.end(), [](const Loop* loop) { return loop->next < loop->count; });
    if (busy != loops_.end()) {
      Loop& loop = **busy;
      run_one(loop, lock);
      if (loop.done == loop.count) announce_change();
    } else if (closing_) {
      return;
    } else {
      wait_for_change(lock);
    }
  }
}

std::shared_ptr<ThreadPool> make_thread_pool(int threads) {
  return make_thread_pool(ThreadPlacement{.threads = threads, .cpus = {}, .text = {}});
}

std::shared_ptr<ThreadPool> make_thread_pool(const ThreadPlacement& placement) {
  if (placement.threads < 1)
    throw Error(fmt::format("a thread pool needs at least 1 thread, found {}", placement.threads));
  return std::make_shared<ThreadPool>(placement);
}

}  // namespace spillway::kernels::cpu
