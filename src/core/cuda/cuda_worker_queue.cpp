// SPDX-License-Identifier: Apache-2.0
#include "core/cuda/cuda_worker_queue.hpp"

namespace spillway::cuda {

CudaWorkerQueue::CudaWorkerQueue(int gpu, const std::string& name)
    : stream_((make_current(gpu), make_stream())), copied_(make_event()), worker_(name) {
  worker_.submit([gpu] { make_current(gpu); });
}

void CudaWorkerQueue::copy(std::byte* to, const std::byte* from, std::size_t bytes) {
  worker_.submit([this, to, from, bytes] {
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream_.get()), "cudaMemcpyAsync");
    check(cudaEventRecord(copied_.get(), stream_.get()), "cudaEventRecord");
    check(cudaEventSynchronize(copied_.get()), "cudaEventSynchronize of a copy");
  });
}

}  // namespace spillway::cuda
