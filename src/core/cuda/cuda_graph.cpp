// SPDX-License-Identifier: Apache-2.0
#include "core/cuda/cuda_graph.hpp"

#include "core/cuda/cuda_queue.hpp"

namespace spillway::cuda {
namespace {

UniqueHandle<GraphTraits> end_capture(cudaStream_t stream) {
  cudaGraph_t graph = nullptr;
  check(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
  return UniqueHandle<GraphTraits>(graph);
}

UniqueHandle<GraphTraits> capture(cudaStream_t stream, const std::function<void()>& work) {
  // Other threads may go on with what this one must not do meanwhile.
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  try {
    work();
  } catch (...) {
    // The stream must be usable for others; what `work` threw says more than that the capture failed.
    cudaGraph_t graph = nullptr;
    log_if_failed(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
    const UniqueHandle<GraphTraits> dropped(graph);
    throw;
  }
  return end_capture(stream);
}

}  // namespace

CudaGraph::CudaGraph(Queue& queue, const std::function<void()>& work) {
  const cudaStream_t stream = stream_of(queue);
  const UniqueHandle<GraphTraits> graph = capture(stream, work);
  cudaGraphExec_t executable = nullptr;
  check(cudaGraphInstantiate(&executable, graph.get(), 0), "cudaGraphInstantiate");
  executable_ = UniqueHandle<GraphExecTraits>(executable);
  check(cudaGraphUpload(executable_.get(), stream), "cudaGraphUpload");
}

void CudaGraph::run(Queue& queue) { check(cudaGraphLaunch(executable_.get(), stream_of(queue)), "cudaGraphLaunch"); }

}  // namespace spillway::cuda
