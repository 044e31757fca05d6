// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "core/cuda/check.hpp"
#include "core/unique_handle.hpp"

namespace spillway::cuda {

struct StreamTraits {
  using Handle = cudaStream_t;
  static Handle null() noexcept { return nullptr; }
  static void destroy(Handle stream) noexcept { log_if_failed(cudaStreamDestroy(stream), "cudaStreamDestroy"); }
};
using StreamHandle = UniqueHandle<StreamTraits>;

struct EventTraits {
  using Handle = cudaEvent_t;
  static Handle null() noexcept { return nullptr; }
  static void destroy(Handle event) noexcept { log_if_failed(cudaEventDestroy(event), "cudaEventDestroy"); }
};
using EventHandle = UniqueHandle<EventTraits>;

/// GPU `index` becomes the calling thread's.
inline void make_current(int index) { check(cudaSetDevice(index), "cudaSetDevice"); }

/// A stream of the current GPU that the default stream does not hold up.
[[nodiscard]] inline StreamHandle make_stream() {
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  return StreamHandle(stream);
}

/// An event of the current GPU without time. Who waits for it sleeps: the cores belong to the optimizer.
[[nodiscard]] inline EventHandle make_event() {
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming | cudaEventBlockingSync), "cudaEventCreateWithFlags");
  return EventHandle(event);
}

}  // namespace spillway::cuda
