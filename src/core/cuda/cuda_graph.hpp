// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

#include "core/cuda/handles.hpp"
#include "core/device.hpp"

namespace spillway::cuda {

struct GraphTraits {
  using Handle = cudaGraph_t;
  static Handle null() noexcept { return nullptr; }
  static void destroy(Handle graph) noexcept { log_if_failed(cudaGraphDestroy(graph), "cudaGraphDestroy"); }
};
struct GraphExecTraits {
  using Handle = cudaGraphExec_t;
  static Handle null() noexcept { return nullptr; }
  static void destroy(Handle graph) noexcept { log_if_failed(cudaGraphExecDestroy(graph), "cudaGraphExecDestroy"); }
};

/// A stream's work as a CUDA graph.
class CudaGraph : public Recording {
 public:
  /// Records what `work` submits to `queue`; none of it runs. As Device::record_work.
  CudaGraph(Queue& queue, const std::function<void()>& work);
  void run(Queue& queue) override;

 private:
  UniqueHandle<GraphExecTraits> executable_;
};

}  // namespace spillway::cuda
