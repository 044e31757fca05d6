// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <string>

#include "core/cuda/handles.hpp"
#include "core/worker_queue.hpp"

namespace spillway::cuda {

/// A worker queue whose thread has the GPU current, with a stream of its own for copies.
class CudaWorkerQueue : public Queue {
 public:
  CudaWorkerQueue(int gpu, const std::string& name);

  void submit(std::function<void()> work) override { worker_.submit(std::move(work)); }
  Event record() override { return worker_.record(); }
  void wait(const Event& event) override { worker_.wait(event); }
  /// As Device::copy; the host memory may be any. The worker sleeps until the copy is done.
  void copy(std::byte* to, const std::byte* from, std::size_t bytes);

 private:
  StreamHandle stream_;
  EventHandle copied_;
  WorkerQueue worker_;  // last: its thread ends before what it uses goes
};

}  // namespace spillway::cuda
