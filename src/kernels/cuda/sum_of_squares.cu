// SPDX-License-Identifier: Apache-2.0
#include "core/cuda/check.hpp"
#include "kernels/cuda/eight.cuh"
#include "kernels/cuda/sum_of_squares.hpp"
#include "kernels/cuda/wide_sum.cuh"

namespace spillway::kernels::cuda {
namespace {

constexpr int kGroup = kSquareLanes / kEach;  // threads that share a run: each has kEach of its sums
constexpr int kGroups = 32;                   // runs of a thread block at a time
constexpr int kThreads = kGroup * kGroups;

/// The sums of one run, in every thread of the group that has it.
__device__ double sum_run(const Numbers& x, std::int64_t begin, std::int64_t end) {
  constexpr int kAhead = 4;  // reads under way
  double sums[kEach] = {};
  for (std::int64_t first = begin + threadIdx.x % kGroup * kEach; first < end; first += kAhead * kSquareLanes) {
    float values[kAhead][kEach];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const std::int64_t at = first + i * kSquareLanes;
      x.read(Eight{at, 0, static_cast<int>(min(std::int64_t{kEach}, max(std::int64_t{0}, end - at)))}, values[i]);
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i)
#pragma unroll
      for (int lane = 0; lane < kEach; ++lane) sums[lane] = __dadd_rn(sums[lane], squared(values[i][lane]));
  }
  __syncwarp();
#pragma unroll
  for (int half = kGroup / 2; half > 0; half /= 2)
#pragma unroll
    for (int lane = 0; lane < kEach; ++lane)
      sums[lane] = __dadd_rn(sums[lane], __shfl_down_sync(0xFFFFFFFFU, sums[lane], half, kGroup));
#pragma unroll
  for (int half = kEach / 2; half > 0; half /= 2)
#pragma unroll
    for (int lane = 0; lane < half; ++lane) sums[lane] = __dadd_rn(sums[lane], sums[lane + half]);
  return sums[0];  // of the group's first thread alone
}

/// One thread block sums one block of the op, kGroups runs at a time.
__global__ void __launch_bounds__(kThreads)
    sum_blocks(Numbers x, std::int64_t elements, std::int64_t block, double* partial_sums) {
  __shared__ double of_runs[kGroups];
  const std::int64_t begin = blockIdx.x * block;
  const std::int64_t end = min(elements, begin + block);
  const int group = static_cast<int>(threadIdx.x) / kGroup;
  double total = 0.0;
  for (std::int64_t runs = begin; runs < end; runs += kGroups * kSquareRun) {
    const std::int64_t run = runs + group * kSquareRun;
    const double sum = sum_run(x, run, min(end, run + kSquareRun));
    if (threadIdx.x % kGroup == 0) of_runs[group] = sum;
    __syncthreads();
    if (threadIdx.x == 0)
      for (int i = 0; i < kGroups && runs + i * kSquareRun < end; ++i) total = __dadd_rn(total, of_runs[i]);
    __syncthreads();
  }
  if (threadIdx.x == 0) partial_sums[blockIdx.x] = total;
}

}  // namespace

void sum_of_squares(cudaStream_t stream, const SumOfSquares& op) {
  const std::int64_t elements = op.x.elements();
  if (elements == 0) return;
  const auto blocks = static_cast<unsigned>((elements + op.block - 1) / op.block);
  sum_blocks<<<blocks, kThreads, 0, stream>>>(Numbers::of(op.x), elements, op.block,
                                              reinterpret_cast<double*>(op.partial_sums.data()));
  spillway::cuda::check(cudaGetLastError(), "sum_of_squares");
}

}  // namespace spillway::kernels::cuda
