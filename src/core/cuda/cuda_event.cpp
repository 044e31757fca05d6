// SPDX-License-Identifier: Apache-2.0
#include "core/cuda/cuda_event.hpp"

#include <exception>
#include <utility>

namespace spillway::cuda {

EventHandle EventPool::take() {
  {
    const std::scoped_lock lock(mutex_);
    if (!free_.empty()) {
      EventHandle event = std::move(free_.back());
      free_.pop_back();
      return event;
    }
    free_.reserve(++made_);  // so that give_back never allocates
  }
  return make_event();
}

void EventPool::give_back(EventHandle event) noexcept {
  const std::scoped_lock lock(mutex_);
  free_.push_back(std::move(event));
}

CudaEventState::CudaEventState(std::shared_ptr<EventPool> pool, EventHandle event,
                               std::shared_ptr<QueueFailure> failure, std::uint64_t place)
    : pool_(std::move(pool)), event_(std::move(event)), failure_(std::move(failure)), place_(place) {}

// A stream that was told to wait for the event took note of it then: it may be recorded anew.
CudaEventState::~CudaEventState() { pool_->give_back(std::move(event_)); }

void CudaEventState::wait() {
  check(cudaEventSynchronize(event_.get()), "cudaEventSynchronize");
  if (const std::exception_ptr error = failure_->before(place_)) std::rethrow_exception(error);
}

bool CudaEventState::ready() {
  const cudaError_t result = cudaEventQuery(event_.get());
  if (result == cudaSuccess) return true;
  static_cast<void>(cudaGetLastError());
  return result != cudaErrorNotReady;  // a failed GPU is ready: wait() says how it failed
}

}  // namespace spillway::cuda
