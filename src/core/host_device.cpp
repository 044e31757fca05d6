// SPDX-License-Identifier: Apache-2.0
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

#include <fmt/format.h>
#include <pthread.h>
#include <sys/mman.h>

#include "core/device.hpp"
#include "core/error.hpp"

namespace spillway {
namespace {

class HostEvent : public EventState {
 public:
  void wait() override {
    std::unique_lock lock(mutex_);
    happened_.wait(lock, [this] { return done_; });
    if (error_) std::rethrow_exception(error_);
  }
  bool ready() override {
    const std::scoped_lock lock(mutex_);
    return done_;
  }
  void signal(std::exception_ptr error) {
    const std::scoped_lock lock(mutex_);
    done_ = true;
    error_ = std::move(error);
    happened_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable happened_;
  bool done_ = false;
  std::exception_ptr error_;
};

class InlineQueue : public Queue {
 public:
  void submit(std::function<void()> work) override { work(); }
  Event record() override { return {}; }
  void wait(const Event& event) override { event.wait(); }
};

class WorkerQueue : public Queue {
 public:
  explicit WorkerQueue(const std::string& name) : thread_([this] { run(); }) {
    pthread_setname_np(thread_.native_handle(), name.substr(0, 15).c_str());
  }
  WorkerQueue(const WorkerQueue&) = delete;
  WorkerQueue& operator=(const WorkerQueue&) = delete;
  ~WorkerQueue() override {
    {
      const std::scoped_lock lock(mutex_);
      closing_ = true;
      changed_.notify_all();
    }
    thread_.join();
  }

  void submit(std::function<void()> work) override {
    push([this, work = std::move(work)] {
      if (error_) return;
      try {
        work();
      } catch (...) {
        error_ = std::current_exception();
      }
    });
  }
  Event record() override {
    auto event = std::make_shared<HostEvent>();
    push([this, event] { event->signal(error_); });
    return Event(event);
  }
  void wait(const Event& event) override {
    submit([event] { event.wait(); });
  }

 private:
  void push(std::function<void()> task) {
    const std::scoped_lock lock(mutex_);
    tasks_.push_back(std::move(task));
    changed_.notify_all();
  }
  void run() {
    for (;;) {
      std::function<void()> task;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return closing_ || !tasks_.empty(); });
        if (tasks_.empty()) return;
        task = std::move(tasks_.front());
        tasks_.pop_front();
      }
      task();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  bool closing_ = false;
  std::exception_ptr error_;  // only the worker's thread touches it
  std::thread thread_;
};

class HostDevice : public Device {
 public:
  std::string name() const override { return "cpu"; }

  Buffer allocate(MemoryKind kind, std::size_t bytes) override {
    constexpr std::size_t kPage = 4096;
    const std::size_t rounded = (bytes + kPage - 1) / kPage * kPage;
    if (rounded == 0) return {};
    auto* memory = static_cast<std::byte*>(std::aligned_alloc(kPage, rounded));
    if (memory == nullptr)
      throw Error(fmt::format("host memory: {} bytes cannot be allocated", rounded), ExitCode::failure);
    // Huge pages make streams over several arrays a fifth faster. A wish only: a system without them says no.
    constexpr std::size_t kWorthHugePages = std::size_t{4} << 20;
    if (rounded >= kWorthHugePages) (void)madvise(memory, rounded, MADV_HUGEPAGE);
    std::memset(memory, 0, rounded);
    return {std::unique_ptr<std::byte[], MemoryDeleter>(memory, MemoryDeleter{[](std::byte* p) { std::free(p); }}),
            rounded, kind};
  }
  std::unique_ptr<Queue> create_compute_queue() override { return std::make_unique<InlineQueue>(); }
  std::unique_ptr<Queue> create_worker_queue(const std::string& name) override {
    return std::make_unique<WorkerQueue>(name);
  }
  void copy(Queue& queue, std::byte* to, const std::byte* from, std::size_t bytes) override {
    queue.submit([=] { std::memcpy(to, from, bytes); });
  }
};

}  // namespace

std::unique_ptr<Device> make_host_device() { return std::make_unique<HostDevice>(); }

}  // namespace spillway
