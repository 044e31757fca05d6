// SPDX-License-Identifier: Apache-2.0
#include "core/cuda/cuda_marks.hpp"

#include <utility>

#include "core/cuda/cuda_queue.hpp"

namespace spillway::cuda {
namespace {

using Clock = std::chrono::steady_clock;

EventHandle make_timed_event() {
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, cudaEventBlockingSync), "cudaEventCreateWithFlags");
  return EventHandle(event);
}

}  // namespace

CudaMarks::CudaMarks(int gpu, std::size_t count) : gpu_(gpu) {
  make_current(gpu_);
  stream_ = make_stream();
  origin_ = make_timed_event();
  for (std::size_t i = 0; i < count; ++i) events_.push_back(make_timed_event());
  synchronize_clocks();
}

void CudaMarks::set(Queue& queue, std::size_t index) {
  make_current(gpu_);
  check(cudaEventRecord(events_.at(index).get(), stream_of(queue)), "cudaEventRecord");
}

// The event happens between two looks at the host's clock; the closest pair of a few is taken for its time.
void CudaMarks::synchronize_clocks() {
  constexpr int kAttempts = 4;
  make_current(gpu_);
  Clock::duration closest = Clock::duration::max();
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    EventHandle event = make_timed_event();
    const Clock::time_point before = Clock::now();
    check(cudaEventRecord(event.get(), stream_.get()), "cudaEventRecord");
    while (cudaEventQuery(event.get()) == cudaErrorNotReady) static_cast<void>(cudaGetLastError());
    const Clock::time_point after = Clock::now();
    check(cudaEventSynchronize(event.get()), "cudaEventSynchronize");
    if (after - before >= closest) continue;
    closest = after - before;
    origin_ = std::move(event);
    origin_time_ = before + closest / 2;
  }
}

Clock::time_point CudaMarks::at(std::size_t index) {
  const std::chrono::duration<double> since_origin(seconds_between(origin_, events_.at(index)));
  return origin_time_ + std::chrono::duration_cast<Clock::duration>(since_origin);
}

double CudaMarks::seconds(std::size_t from, std::size_t to) {
  return seconds_between(events_.at(from), events_.at(to));
}

double CudaMarks::seconds_between(const EventHandle& from, const EventHandle& to) const {
  make_current(gpu_);
  check(cudaEventSynchronize(from.get()), "cudaEventSynchronize");
  check(cudaEventSynchronize(to.get()), "cudaEventSynchronize");
  float milliseconds = 0.0F;
  check(cudaEventElapsedTime(&milliseconds, from.get(), to.get()), "cudaEventElapsedTime");
  return 1e-3 * static_cast<double>(milliseconds);
}

}  // namespace spillway::cuda
