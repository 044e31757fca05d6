// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "core/device.hpp"

namespace spillway {

/// The queue with a thread of its own that every device's `create_worker_queue` is made of. Destroyed with work left, it
/// does that first; its events outlive it.
class WorkerQueue : public Queue {
 public:
  explicit WorkerQueue(const std::string& name);
  WorkerQueue(const WorkerQueue&) = delete;
  WorkerQueue& operator=(const WorkerQueue&) = delete;
  ~WorkerQueue() override;

  void submit(std::function<void()> work) override;
  Event record() override;
  void wait(const Event& event) override;

 private:
  void push(std::function<void()> task);
  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  bool closing_ = false;
  std::exception_ptr error_;  // only the worker's thread touches it
  std::thread thread_;
};

}  // namespace spillway
