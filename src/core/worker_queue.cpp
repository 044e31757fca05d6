// SPDX-License-Identifier: Apache-2.0
#include "core/worker_queue.hpp"

#include <memory>
#include <utility>

#include <pthread.h>

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

}  // namespace

WorkerQueue::WorkerQueue(const std::string& name) : thread_([this] { run(); }) {
  pthread_setname_np(thread_.native_handle(), name.substr(0, 15).c_str());
}

WorkerQueue::~WorkerQueue() {
  {
    const std::scoped_lock lock(mutex_);
    closing_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

void WorkerQueue::submit(std::function<void()> work) {
  push([this, work = std::move(work)] {
    if (error_) return;
    try {
      work();
    } catch (...) {
      error_ = std::current_exception();
    }
  });
}

Event WorkerQueue::record() {
  auto event = std::make_shared<HostEvent>();
  push([this, event] { event->signal(error_); });
  return Event(event);
}

void WorkerQueue::wait(const Event& event) {
  submit([event] { event.wait(); });
}

void WorkerQueue::push(std::function<void()> task) {
  const std::scoped_lock lock(mutex_);
  tasks_.push_back(std::move(task));
  changed_.notify_all();
}

void WorkerQueue::run() {
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

}  // namespace spillway
