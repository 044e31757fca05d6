// SPDX-License-Identifier: Apache-2.0
#include "core/cuda/cuda_queue.hpp"

#include <cstring>
#include <exception>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include "core/cuda/small_copy.hpp"
#include "core/error.hpp"

namespace spillway::cuda {
namespace {

struct HostCall {
  std::shared_ptr<QueueFailure> failure;
  std::uint64_t place;
  std::function<void()> work;
};

// On a thread of the driver: no CUDA call is allowed here.
void CUDART_CB run_host_call(void* data) noexcept {
  const std::unique_ptr<HostCall> call(static_cast<HostCall*>(data));
  if (call->failure->before(call->place)) return;
  try {
    call->work();
  } catch (...) {
    call->failure->fail(call->place, std::current_exception());
  }
}

// CUDA would read pageable memory at once instead of in the stream's order.
bool is_device_memory(const std::byte* memory) {
  cudaPointerAttributes attributes{};
  check(cudaPointerGetAttributes(&attributes, memory), "cudaPointerGetAttributes");
  if (attributes.type == cudaMemoryTypeUnregistered)
    throw Error("copy in a CUDA compute queue: host memory that the device did not allocate");
  return attributes.type != cudaMemoryTypeHost;
}

}  // namespace

cudaStream_t stream_of(Queue& queue) {
  auto* of_cuda = dynamic_cast<CudaQueue*>(&queue);
  if (of_cuda == nullptr) throw Error("a GPU operation was given a queue that is not a compute queue of a CUDA device");
  return of_cuda->stream();
}

CudaQueue::CudaQueue(int gpu, std::shared_ptr<EventPool> events, std::shared_ptr<std::mutex> failures)
    : gpu_(gpu), events_(std::move(events)), failure_(std::make_shared<QueueFailure>(std::move(failures))) {
  make_current(gpu_);
  stream_ = make_stream();
}

CudaQueue::~CudaQueue() {
  log_if_failed(cudaStreamSynchronize(stream_.get()), "cudaStreamSynchronize");
  // Looks up the waits that are left: two queues that waited for each other would keep each other's record alive.
  static_cast<void>(failure_->before(std::numeric_limits<std::uint64_t>::max()));
}

void CudaQueue::submit(std::function<void()> work) {
  make_current(gpu_);
  auto call = std::make_unique<HostCall>(HostCall{failure_, place_, std::move(work)});
  check(cudaLaunchHostFunc(stream_.get(), run_host_call, call.get()), "cudaLaunchHostFunc");
  static_cast<void>(call.release());  // run_host_call owns it now
  ++place_;
}

Event CudaQueue::record() {
  make_current(gpu_);
  auto state = std::make_shared<CudaEventState>(events_, events_->take(), failure_, place_);
  check(cudaEventRecord(state->handle(), stream_.get()), "cudaEventRecord");
  return Event(std::move(state));
}

void CudaQueue::wait(const Event& event) {
  const auto* other = dynamic_cast<const CudaEventState*>(event.state().get());
  if (other != nullptr && other->pool() == events_) {
    if (other->failure() == failure_) return;  // its own event: the stream's order is enough
    make_current(gpu_);
    check(cudaStreamWaitEvent(stream_.get(), other->handle(), 0), "cudaStreamWaitEvent");
    failure_->inherit(place_++, other->failure(), other->place());
    return;
  }
  // The caller waits, not the stream. A stream that stands still for the host can stop the very thread it waits for:
  // allocations and the loading of a kernel may wait for every stream. What was submitted before keeps the GPU busy.
  try {
    event.wait();
  } catch (...) {
    failure_->fail(place_++, std::current_exception());
    throw;
  }
}

void CudaQueue::copy(std::byte* to, const std::byte* from, std::size_t bytes) {
  make_current(gpu_);
  const bool to_device = is_device_memory(to);
  const bool from_device = is_device_memory(from);
  if (!to_device && !from_device) {  // CUDA would copy from host to host on the caller's thread
    submit([=] { std::memcpy(to, from, bytes); });
    return;
  }
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream_.get()), "cudaMemcpyAsync");
}

void CudaQueue::copy_little(std::byte* to, const std::byte* from, std::size_t bytes) {
  make_current(gpu_);
  static_cast<void>(is_device_memory(to));
  static_cast<void>(is_device_memory(from));
  check(copy_by_kernel(stream_.get(), to, from, bytes), "a kernel that copies");
}

}  // namespace spillway::cuda
