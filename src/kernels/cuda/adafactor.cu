// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/cuda/check.hpp"
#include "kernels/cuda/adafactor.hpp"
#include "kernels/cuda/adafactor_update.cuh"
#include "kernels/cuda/wide_sum.cuh"

namespace spillway::kernels::cuda {
namespace {

constexpr int kThreads = 32 * kEightWarps, kMeanThreads = 512;

/// A side of a factored second moment.
struct Side {
  const double* sums;
  float* moment;
  float* factors;
  std::int64_t size, summands;

  /// moment = beta2 · moment + rest · sum / summands, rounded once.
  __device__ float decay(std::int64_t i, double beta2, double rest) const {
    const double mean = __ddiv_rn(sums[i], static_cast<double>(summands));
    const double wide = __dadd_rn(__dmul_rn(beta2, static_cast<double>(moment[i])), __dmul_rn(rest, mean));
    return moment[i] = __double2float_rn(wide);
  }
};

__device__ float inverse_root(double x) { return __double2float_rn(__ddiv_rn(1.0, __dsqrt_rn(x))); }

/// Leaves the rows' moments where their factors will be.
__global__ void __launch_bounds__(kThreads) decay_sides(Side row, Side column, double beta2, double rest) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < row.size) row.factors[i] = row.decay(i, beta2, rest);
  if (i < column.size) column.factors[i] = inverse_root(static_cast<double>(column.decay(i, beta2, rest)));
}

/// One thread block, eight threads for each block of numbers.
__global__ void __launch_bounds__(kMeanThreads) make_mean(const float* numbers, std::int64_t size, double* mean) {
  constexpr int kBlocks = kMeanThreads / 8;
  __shared__ double of_blocks[kBlocks];
  double total = 0.0;
  for (std::int64_t begin = 0; begin < size; begin += kBlocks * kSumBlock) {
    const std::int64_t start = begin + threadIdx.x / 8 * kSumBlock, end = min(size, start + kSumBlock);
    double sum = 0.0;
#pragma unroll 8
    for (std::int64_t i = start + threadIdx.x % 8; i < end; i += 8)
      sum = __dadd_rn(sum, static_cast<double>(numbers[i]));
    sum = total_of_eight(sum);
    if (threadIdx.x % 8 == 0) of_blocks[threadIdx.x / 8] = sum;
    __syncthreads();
    if (threadIdx.x == 0)
      for (int i = 0; i < kBlocks; ++i) total = __dadd_rn(total, of_blocks[i]);  // a missing 0 changes nothing
    __syncthreads();
  }
  if (threadIdx.x == 0) *mean = __ddiv_rn(total, static_cast<double>(size));
}

__global__ void __launch_bounds__(kThreads) make_row_factors(Side row, const double* mean) {
  const std::int64_t r = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (r < row.size) row.factors[r] = inverse_root(__ddiv_rn(static_cast<double>(row.factors[r]), *mean));
}

struct Decay {
  float beta2, rest, eps1;
};

__global__ void __launch_bounds__(kThreads)
    decay_towards_squares(ScaledNumbers gradient, Decay decay, float* exp_avg_sq, std::int64_t elements) {
  const Eight at = Eight::mine(0, elements);
  float g[kEach], moment[kEach];
  gradient.read(at, g);
  load<float>(exp_avg_sq, at, moment);
  for (int i = 0; i < kEach; ++i)
    moment[i] = __fmaf_rn(decay.rest, __fmaf_rn(g[i], g[i], decay.eps1), __fmul_rn(decay.beta2, moment[i]));
  store(exp_avg_sq, at, moment);
}

__global__ void __launch_bounds__(kThreads) apply_update(Update update, ScaledNumbers gradient, Parameters parameter,
                                                         float decay, float step_size, std::int64_t elements) {
  const Eight at = Eight::mine(0, elements);
  if (at.from >= at.to) return;
  float g[kEach], p[kEach];
  gradient.read(at, g);
  parameter.read(at, p);
  Update::Place place = update.place_of(at.begin);
  for (int i = 0; i < kEach; ++i) {
    if (!at.has(i)) continue;
    p[i] = __fmaf_rn(-step_size, update.make(g[i], at.begin + i, place), __fmul_rn(p[i], decay));
    place.advance(1, update.columns);
  }
  parameter.write(at, p);
}

Side side(const ConstTensorView& sums, const TensorView& moment, const TensorView& factors, std::int64_t summands) {
  return {reinterpret_cast<const double*>(sums.data()), reinterpret_cast<float*>(moment.data()),
          reinterpret_cast<float*>(factors.data()), sums.elements(), summands};
}

}  // namespace

void adafactor_factors(cudaStream_t stream, const AdafactorFactors& op, std::span<double> partial_sums) {
  const std::int64_t rows = op.row_sums.elements(), columns = op.column_sums.elements();
  const Side row = side(op.row_sums, op.exp_avg_sq_row, op.row_factors, columns);
  const Side column = side(op.column_sums, op.exp_avg_sq_col, op.column_factors, rows);
  const auto blocks = [](std::int64_t threads) { return static_cast<unsigned>((threads + kThreads - 1) / kThreads); };
  decay_sides<<<blocks(std::max(rows, columns)), kThreads, 0, stream>>>(row, column, op.beta2, 1.0 - op.beta2);
  spillway::cuda::check(cudaGetLastError(), "adafactor_factors: means");
  make_mean<<<1, kMeanThreads, 0, stream>>>(row.factors, rows, partial_sums.data());
  spillway::cuda::check(cudaGetLastError(), "adafactor_factors: mean of all rows");
  make_row_factors<<<blocks(rows), kThreads, 0, stream>>>(row, partial_sums.data());
  spillway::cuda::check(cudaGetLastError(), "adafactor_factors: rows");
}

void adafactor_second_moment(cudaStream_t stream, const AdafactorSecondMoment& op) {
  const std::int64_t elements = op.exp_avg_sq.elements();
  if (elements == 0) return;
  const Decay decay{static_cast<float>(op.beta2), static_cast<float>(1.0 - op.beta2), static_cast<float>(op.eps1)};
  decay_towards_squares<<<eight_blocks(0, elements), kThreads, 0, stream>>>(
      ScaledNumbers::of(op.gradient), decay, reinterpret_cast<float*>(op.exp_avg_sq.data()), elements);
  spillway::cuda::check(cudaGetLastError(), "adafactor_second_moment");
}

void adafactor_step(cudaStream_t stream, const AdafactorStep& op) {
  const std::int64_t elements = op.update.piece.count;
  apply_update<<<eight_blocks(0, elements), kThreads, 0, stream>>>(
      Update::of(op.update), ScaledNumbers::of(op.update.gradient), Parameters::of(op.parameter),
      static_cast<float>(1.0 - op.learning_rate * op.weight_decay), static_cast<float>(op.learning_rate / op.divisor),
      elements);
  spillway::cuda::check(cudaGetLastError(), "adafactor_step");
}

}  // namespace spillway::kernels::cuda
