// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>

#include <cuda_runtime_api.h>

#include "core/cuda/cuda_event.hpp"
#include "core/cuda/handles.hpp"
#include "core/cuda/queue_failure.hpp"
#include "core/device.hpp"

namespace spillway::cuda {

/// The stream of a compute queue, which kernels are launched on.
/// \throws Error if `queue` is not a compute queue of a CUDA device
[[nodiscard]] cudaStream_t stream_of(Queue& queue);

/// A compute queue: one stream. Destroyed with work left, it waits for that.
class CudaQueue : public Queue {
 public:
  /// \param events    of the device; queues with the same pool wait for one another without the host
  /// \param failures  the mutex of that device's QueueFailures
  CudaQueue(int gpu, std::shared_ptr<EventPool> events, std::shared_ptr<std::mutex> failures);
  CudaQueue(const CudaQueue&) = delete;
  CudaQueue& operator=(const CudaQueue&) = delete;
  ~CudaQueue() override;

  void submit(std::function<void()> work) override;
  Event record() override;
  void wait(const Event& event) override;
  /// As Device::copy.
  void copy(std::byte* to, const std::byte* from, std::size_t bytes);
  /// As Device::copy_little.
  void copy_little(std::byte* to, const std::byte* from, std::size_t bytes);
  [[nodiscard]] cudaStream_t stream() const noexcept { return stream_.get(); }

 private:
  int gpu_;
  std::shared_ptr<EventPool> events_;
  std::shared_ptr<QueueFailure> failure_;
  std::uint64_t place_ = 0;  // of the next task or wait
  StreamHandle stream_;
};

}  // namespace spillway::cuda
