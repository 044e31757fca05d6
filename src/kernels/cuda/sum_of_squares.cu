// SPDX-License-Identifier: Apache-2.0
#include "core/cuda/check.hpp"
#include "kernels/cuda/eight.cuh"
#include "kernels/cuda/sum_of_squares.hpp"
#include "kernels/cuda/wide_sum.cuh"

namespace spillway::kernels::cuda {
namespace {

constexpr int kThreads = 256;

/// One thread block sums one block of the op. All threads bring squares, eight of them add: the order allows no more. What is read
/// next is under way while they add.
__global__ void __launch_bounds__(kThreads)
    sum_blocks(Numbers x, std::int64_t elements, std::int64_t block, double* partial_sums) {
  __shared__ double squares[kEach][kThreads + 1];  // number i of a tile at [i % 8][i / 8]
  const std::int64_t begin = blockIdx.x * block;
  const std::int64_t end = min(elements, begin + block);
  const auto place = [&](std::int64_t tile) {
    const std::int64_t first = tile + threadIdx.x * kEach;
    return Eight{first, 0, static_cast<int>(min(std::int64_t{kEach}, max(std::int64_t{0}, end - first)))};
  };
  float values[kEach];
  x.read(place(begin), values);
  double sum = 0.0;
  for (std::int64_t tile = begin; tile < end; tile += kThreads * kEach) {
    for (int i = 0; i < kEach; ++i) squares[i][threadIdx.x] = squared(values[i]);
    __syncthreads();
    x.read(place(tile + kThreads * kEach), values);
    if (threadIdx.x < kEach) {
      const double* mine = squares[threadIdx.x];
#pragma unroll 8
      for (int i = 0; i < kThreads; ++i) sum = __dadd_rn(sum, mine[i]);  // a missing number's 0 changes nothing
    }
    __syncthreads();
  }
  if (threadIdx.x >= 32) return;
  sum = total_of_eight(sum);
  if (threadIdx.x == 0) partial_sums[blockIdx.x] = sum;
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
