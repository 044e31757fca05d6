// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "core/cuda/handles.hpp"
#include "core/cuda/queue_failure.hpp"
#include "core/device.hpp"

namespace spillway::cuda {

/// CUDA events of one GPU for use again and again: a step makes hundreds.
class EventPool {
 public:
  /// Makes one if none is free; the GPU must be current.
  [[nodiscard]] EventHandle take();
  void give_back(EventHandle event) noexcept;

 private:
  std::mutex mutex_;
  std::vector<EventHandle> free_;
  std::size_t made_ = 0;
};

/// A recorded event of a compute queue. Outlives its queue.
class CudaEventState : public EventState {
 public:
  /// \param place  the event's in its queue, see QueueFailure
  CudaEventState(std::shared_ptr<EventPool> pool, EventHandle event, std::shared_ptr<QueueFailure> failure,
                 std::uint64_t place);
  CudaEventState(const CudaEventState&) = delete;
  CudaEventState& operator=(const CudaEventState&) = delete;
  ~CudaEventState() override;

  void wait() override;
  bool ready() override;
  [[nodiscard]] cudaEvent_t handle() const noexcept { return event_.get(); }
  [[nodiscard]] const std::shared_ptr<EventPool>& pool() const noexcept { return pool_; }
  [[nodiscard]] const std::shared_ptr<QueueFailure>& failure() const noexcept { return failure_; }
  [[nodiscard]] std::uint64_t place() const noexcept { return place_; }

 private:
  std::shared_ptr<EventPool> pool_;
  EventHandle event_;
  std::shared_ptr<QueueFailure> failure_;
  std::uint64_t place_;
};

}  // namespace spillway::cuda
