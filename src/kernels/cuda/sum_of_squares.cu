// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "kernels/cuda/launch.hpp"
#include "kernels/cuda/raw_octet.cuh"
#include "kernels/cuda/sum_of_squares.hpp"

namespace spillway::kernels::cuda {
namespace {

constexpr int kGroup = kSquareLanes / kOctet;  // threads that share a run: each has an octet of its sums
constexpr int kGroups = 32;                    // runs of a thread block at a time
constexpr int kBlockThreads = kGroup * kGroups;

/// The sums of one run, in the first thread of the group that has it. A square of 24 bits is exact in fp64, so a fused sum has the bits
/// of one that rounds the square first.
template <bool kWhole, typename T>
__device__ double sum_run(const T* x, std::int64_t begin, std::int64_t end) {
  constexpr int kAhead = kWhole ? 16 / sizeof(T) : 2;  // octets on their way: as many registers whatever T is
  double sums[kOctet] = {};
  for (std::int64_t first = begin + threadIdx.x % kGroup * kOctet; first < end; first += kAhead * kSquareLanes) {
    RawOctet<T> raw[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const std::int64_t at = first + i * kSquareLanes;
      raw[i] = load_raw<kWhole>(x + at, static_cast<int>(end - at));
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const Octet values = widen(raw[i]);
#pragma unroll
      for (int lane = 0; lane < kOctet; ++lane) {
        const auto value = static_cast<double>(values.values[lane]);
        sums[lane] = __fma_rn(value, value, sums[lane]);
      }
    }
  }
  __syncwarp();
#pragma unroll
  for (int half = kGroup / 2; half > 0; half /= 2)
#pragma unroll
    for (int lane = 0; lane < kOctet; ++lane)
      sums[lane] = __dadd_rn(sums[lane], __shfl_down_sync(0xFFFFFFFFU, sums[lane], half, kGroup));
#pragma unroll
  for (int half = kOctet / 2; half > 0; half /= 2)
#pragma unroll
    for (int lane = 0; lane < half; ++lane) sums[lane] = __dadd_rn(sums[lane], sums[lane + half]);
  return sums[0];
}

/// One thread block sums one block of the op, kGroups runs at a time.
template <bool kWhole, typename T>
__global__ void __launch_bounds__(kBlockThreads, 3)
    sum_blocks(const T* x, std::int64_t elements, std::int64_t block, double* partial_sums) {
  __shared__ double of_runs[kGroups];
  const std::int64_t begin = blockIdx.x * block;
  const std::int64_t end = min(elements, begin + block);
  const int group = static_cast<int>(threadIdx.x) / kGroup;
  double total = 0.0;
  for (std::int64_t runs = begin; runs < end; runs += kGroups * kSquareRun) {
    const std::int64_t run = runs + group * kSquareRun;
    const double sum = sum_run<kWhole>(x, run, min(end, run + kSquareRun));
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
  const std::int64_t count = op.x.elements();
  if (count == 0) return;
  const auto blocks = static_cast<unsigned>((count + op.block - 1) / op.block);
  visit_storage(op.x.dtype(), [&]<typename T>(std::type_identity<T>) {
    const T* x = elements<T>(op.x);
    const bool whole = octets_are_whole(op.block, x) && count % kOctet == 0;
    const auto kernel = whole ? sum_blocks<true, T> : sum_blocks<false, T>;
    kernel<<<blocks, kBlockThreads, 0, stream>>>(x, count, op.block, elements<double>(op.partial_sums));
  });
  check_launch("sum_of_squares");
}

}  // namespace spillway::kernels::cuda
