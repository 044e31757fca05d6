// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/cuda/check.hpp"
#include "kernels/cuda/adafactor.hpp"
#include "kernels/cuda/adafactor_update.cuh"
#include "kernels/cuda/wide_sum.cuh"

namespace spillway::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kSumBlock = 256;  // of the unit: pieces cut at its edges have the same bits

/// Every eighth of some numbers.
struct ParameterWalk {
  Parameters parameters;
  std::int64_t i = 0;

  __device__ void start(std::int64_t begin) { i = begin; }
  __device__ float next() {
    const float value = parameters.at(i);
    i += 8;
    return value;
  }
};
struct UpdateWalk {
  Update update;
  ScaledNumbers gradient;
  std::int64_t i = 0;
  Update::Place place{};

  __device__ void start(std::int64_t begin) {
    i = begin;
    place = update.place_of(begin);
  }
  __device__ float next() {
    const float value = update.make(gradient.at(i), i, place);
    i += 8;
    place.advance(8, update.columns);
    return value;
  }
};

/// Σ x² of each of `blocks` blocks of a piece from block `chunk` on, by eight threads each.
/// \param offset  of the piece in its first block
template <typename Walk>
__global__ void __launch_bounds__(kThreads) sum_blocks(Walk walk, std::int64_t offset, std::int64_t count,
                                                       std::int64_t chunk, std::int64_t blocks, double* sums) {
  const std::int64_t block = (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) / 8;
  const std::int64_t start = (chunk + block) * kSumBlock - offset;
  const std::int64_t begin = max(std::int64_t{0}, start) + threadIdx.x % 8, end = min(count, start + kSumBlock);
  double sum = 0.0;
  if (block < blocks && begin < end) {
    walk.start(begin);
#pragma unroll 4
    for (std::int64_t i = begin; i < end; i += 8) sum = __dadd_rn(sum, squared(walk.next()));
  }
  sum = total_of_eight(sum);
  if (block < blocks && threadIdx.x % 8 == 0) sums[block] = sum;
}

/// Adds numbers to `sum` in order: one thread does, the others bring them.
__global__ void __launch_bounds__(kThreads) add_in_order(const double* numbers, std::int64_t count, double* sum) {
  constexpr int kTile = 8 * kThreads;
  __shared__ double tile[kTile];
  double total = *sum;
  for (std::int64_t begin = 0; begin < count; begin += kTile) {
    const int here = static_cast<int>(min(std::int64_t{kTile}, count - begin));
    for (int i = static_cast<int>(threadIdx.x); i < here; i += kThreads) tile[i] = numbers[begin + i];
    __syncthreads();
    if (threadIdx.x == 0) {
#pragma unroll 8
      for (int i = 0; i < here; ++i) total = __dadd_rn(total, tile[i]);
    }
    __syncthreads();
  }
  if (threadIdx.x == 0) *sum = total;
}

template <typename Walk>
void add_block_sums(cudaStream_t stream, const Walk& walk, const MatrixPiece& piece, const TensorView& sum,
                    std::span<double> block_sums) {
  const std::int64_t offset = piece.first % kSumBlock;
  const std::int64_t blocks = (offset + piece.count + kSumBlock - 1) / kSumBlock;
  const auto at_once = static_cast<std::int64_t>(block_sums.size());
  for (std::int64_t chunk = 0; chunk < blocks; chunk += at_once) {
    const std::int64_t here = std::min(at_once, blocks - chunk);
    sum_blocks<<<static_cast<unsigned>((here * 8 + kThreads - 1) / kThreads), kThreads, 0, stream>>>(
        walk, offset, piece.count, chunk, here, block_sums.data());
    spillway::cuda::check(cudaGetLastError(), "adafactor: sums of blocks");
    add_in_order<<<1, kThreads, 0, stream>>>(block_sums.data(), here, reinterpret_cast<double*>(sum.data()));
    spillway::cuda::check(cudaGetLastError(), "adafactor: sum of the blocks");
  }
}

/// A piece as the sums over its rows and columns see it.
struct Grid {
  std::int64_t columns, tensor_begin, count, first, first_row, rows;

  static Grid of(const MatrixPiece& piece) {
    return {piece.columns, piece.tensor_begin, piece.count, piece.first, piece.first_row(), piece.touched_rows()};
  }
  /// Counted from the piece's start; may be before it.
  [[nodiscard]] __device__ std::int64_t row_begin(std::int64_t row) const {
    return (first_row + row) * columns - tensor_begin;
  }
};

/// A warp for each row: four blocks at a time, whose sums are then added in order.
__global__ void __launch_bounds__(kThreads) add_rows(Grid grid, ScaledNumbers gradient, double eps1, double* row_sums) {
  const std::int64_t row = (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) / 32;
  if (row >= grid.rows) return;
  const std::int64_t row_begin = grid.row_begin(row);
  const std::int64_t begin = max(std::int64_t{0}, row_begin), end = min(grid.count, row_begin + grid.columns);
  const std::int64_t edge = (grid.first + begin) / kSumBlock * kSumBlock + kSumBlock - grid.first;
  double total = row_sums[row];
  for (std::int64_t done = edge - kSumBlock; done < end; done += 4 * kSumBlock) {
    const std::int64_t start = done + threadIdx.x % 32 / 8 * kSumBlock;
    const std::int64_t stop = min(end, start + kSumBlock);
    double sum = 0.0;
#pragma unroll 4
    for (std::int64_t i = max(begin, start) + threadIdx.x % 8; i < stop; i += 8)
      sum = __dadd_rn(sum, __dadd_rn(squared(gradient.at(i)), eps1));
    sum = total_of_eight(sum);
    for (int block = 0; block < 4; ++block) {
      const double its = __shfl_sync(0xFFFFFFFFU, sum, 8 * block);
      if (done + block * kSumBlock < end) total = __dadd_rn(total, its);
    }
  }
  if (threadIdx.x % 32 == 0) row_sums[row] = total;
}

/// A thread block for 32 columns: eight warps bring 64 rows, the first adds them in order while the next are under way.
__global__ void __launch_bounds__(kThreads)
    add_columns(Grid grid, ScaledNumbers gradient, double eps1, double* column_sums) {
  constexpr int kWarps = kThreads / 32, kOfWarp = 8;
  __shared__ double tile[kWarps * kOfWarp][32];
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const std::int64_t column = std::int64_t{blockIdx.x} * 32 + lane;
  float values[kOfWarp];
  bool given[kOfWarp];
  const auto read = [&](std::int64_t from) {
    for (int i = 0; i < kOfWarp; ++i) {
      const std::int64_t row = from + i * kWarps + warp;
      const std::int64_t element = grid.row_begin(row) + column;
      given[i] = row < grid.rows && column < grid.columns && element >= 0 && element < grid.count;
      values[i] = given[i] ? gradient.at(element) : 0.0F;
    }
  };
  read(0);
  double total = warp == 0 && column < grid.columns ? column_sums[column] : 0.0;
  for (std::int64_t from = 0; from < grid.rows; from += kWarps * kOfWarp) {
    for (int i = 0; i < kOfWarp; ++i)
      tile[i * kWarps + warp][lane] = given[i] ? __dadd_rn(squared(values[i]), eps1) : 0.0;
    __syncthreads();
    read(from + kWarps * kOfWarp);
    if (warp == 0) {
#pragma unroll 8
      for (int i = 0; i < kWarps * kOfWarp; ++i)
        total = __dadd_rn(total, tile[i][lane]);  // a missing 0 changes nothing
    }
    __syncthreads();
  }
  if (warp == 0 && column < grid.columns) column_sums[column] = total;
}

}  // namespace

void adafactor_sums(cudaStream_t stream, const AdafactorSums& op, std::span<double> block_sums) {
  if (op.row_sums) {
    const Grid grid = Grid::of(op.piece);
    const ScaledNumbers gradient = ScaledNumbers::of(op.gradient);
    add_rows<<<static_cast<unsigned>((grid.rows * 32 + kThreads - 1) / kThreads), kThreads, 0, stream>>>(
        grid, gradient, op.eps1, reinterpret_cast<double*>(op.row_sums.data()));
    spillway::cuda::check(cudaGetLastError(), "adafactor_sums: rows");
    add_columns<<<static_cast<unsigned>((grid.columns + 31) / 32), kThreads, 0, stream>>>(
        grid, gradient, op.eps1, reinterpret_cast<double*>(op.column_sums.data()));
    spillway::cuda::check(cudaGetLastError(), "adafactor_sums: columns");
  }
  if (op.parameter_sum)
    add_block_sums(stream, ParameterWalk{Parameters::of(op.parameter)}, op.piece, op.parameter_sum, block_sums);
}

void adafactor_update_sum(cudaStream_t stream, const AdafactorUpdateSum& op, std::span<double> block_sums) {
  add_block_sums(stream, UpdateWalk{Update::of(op.update), ScaledNumbers::of(op.update.gradient)}, op.update.piece,
                 op.sum, block_sums);
}

}  // namespace spillway::kernels::cuda
