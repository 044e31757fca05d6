// SPDX-License-Identifier: Apache-2.0
#include "core/cuda/check.hpp"
#include "kernels/cuda/log_softmax.hpp"
#include "kernels/cuda/normaliser.cuh"

namespace spillway::kernels::cuda {
namespace {

constexpr int kThreads = 1024;

__global__ void __launch_bounds__(kThreads) normalise(float* scores, std::int64_t vocabulary, NoDistribution* failure) {
  float* const its = scores + blockIdx.x * vocabulary;
  const Normaliser normaliser = normaliser_of<kThreads>(its, vocabulary, blockIdx.x, failure);
  for (std::int64_t i = threadIdx.x; i < vocabulary; i += kThreads) its[i] = normaliser.apply(its[i]);
}

}  // namespace

void log_softmax(cudaStream_t stream, const LogSoftmax& op, NoDistribution* failure) {
  if (op.rows == 0) return;
  normalise<<<static_cast<unsigned>(op.rows), kThreads, 0, stream>>>(reinterpret_cast<float*>(op.scores.data()),
                                                                     op.scores.extent(1), failure);
  spillway::cuda::check(cudaGetLastError(), "log_softmax");
}

}  // namespace spillway::kernels::cuda
