// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/cuda/check.hpp"
#include "kernels/cuda/adafactor.hpp"
#include "kernels/cuda/adafactor_update.cuh"
#include "kernels/cuda/storage.cuh"
#include "kernels/cuda/wide_sum.cuh"

namespace spillway::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kSpanThreads = 8 * kBlocksOfSpan;

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
/// \tparam kWide  of a matrix of at least eight columns: moving on passes one row's end at most
template <typename T, bool kWide>
struct UpdateWalk {
  Update update;
  const T* gradient;
  float scale;
  std::int64_t i = 0;
  Update::Place place{};

  __device__ void start(std::int64_t begin) {
    i = begin;
    place = update.place_of(begin);
  }
  __device__ float next() {
    const float value = __fmul_rn(scale, widen(gradient[i]));
    const float made = kWide ? update.of_matrix(value, place) : update.make(value, i, place);
    i += 8;
    if constexpr (kWide) place.advance_once(8, update.columns);
    else place.advance(8, update.columns);
    return made;
  }
};

/// Σ x² of each span of a piece from span `chunk` on, by a thread block: eight threads for each block of the span.
template <typename Walk>
__global__ void __launch_bounds__(kSpanThreads)
    sum_spans(Walk walk, std::int64_t count, std::int64_t chunk, double* of_spans) {
  __shared__ double of_blocks[kBlocksOfSpan];
  const int block = static_cast<int>(threadIdx.x) / 8;
  const std::int64_t start = ((chunk + blockIdx.x) * kBlocksOfSpan + block) * kSumBlock;
  const std::int64_t begin = start + threadIdx.x % 8, end = min(count, start + kSumBlock);
  double sum = 0.0;
  if (begin < end) {
    walk.start(begin);
#pragma unroll 8
    for (std::int64_t i = begin; i < end; i += 8) sum = __dadd_rn(sum, squared(walk.next()));
  }
  sum = total_of_eight(sum);
  if (threadIdx.x % 8 == 0) of_blocks[block] = sum;
  __syncthreads();
  if (threadIdx.x > 0) return;
  double total = 0.0;
#pragma unroll 8
  for (int i = 0; i < kBlocksOfSpan; ++i) total = __dadd_rn(total, of_blocks[i]);  // a missing 0 changes nothing
  of_spans[blockIdx.x] = total;
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
void add_span_sums(cudaStream_t stream, const Walk& walk, std::int64_t count, const TensorView& sum,
                   std::span<double> partial_sums) {
  constexpr std::int64_t kSpan = kBlocksOfSpan * kSumBlock;
  const std::int64_t spans = (count + kSpan - 1) / kSpan;
  const auto at_once = static_cast<std::int64_t>(partial_sums.size());
  for (std::int64_t chunk = 0; chunk < spans; chunk += at_once) {
    const std::int64_t here = std::min(at_once, spans - chunk);
    sum_spans<<<static_cast<unsigned>(here), kSpanThreads, 0, stream>>>(walk, count, chunk, partial_sums.data());
    spillway::cuda::check(cudaGetLastError(), "adafactor: sums of spans");
    add_in_order<<<1, kThreads, 0, stream>>>(partial_sums.data(), here, reinterpret_cast<double*>(sum.data()));
    spillway::cuda::check(cudaGetLastError(), "adafactor: sum of the spans");
  }
}

/// A piece as the sums over its rows and columns see it.
struct Grid {
  std::int64_t columns, tensor_begin, count, first_row, rows;

  static Grid of(const MatrixPiece& piece) {
    return {piece.columns, piece.tensor_begin, piece.count, piece.first_row(), piece.touched_rows()};
  }
  /// Counted from the piece's start; may be before it.
  [[nodiscard]] __device__ std::int64_t row_begin(std::int64_t row) const {
    return (first_row + row) * columns - tensor_begin;
  }
};

/// A warp for each row: four blocks at a time, whose sums are then added in order.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    add_rows(Grid grid, const T* gradient, float scale, double eps1, double* row_sums) {
  const std::int64_t row = (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) / 32;
  if (row >= grid.rows) return;
  const std::int64_t row_begin = grid.row_begin(row);
  const std::int64_t begin = max(std::int64_t{0}, row_begin), end = min(grid.count, row_begin + grid.columns);
  double total = row_sums[row];
  for (std::int64_t done = begin; done < end; done += 4 * kSumBlock) {
    const std::int64_t start = done + threadIdx.x % 32 / 8 * kSumBlock;
    const std::int64_t stop = min(end, start + kSumBlock);
    double sum = 0.0;
#pragma unroll 8
    for (std::int64_t i = start + threadIdx.x % 8; i < stop; i += 8)
      sum = __dadd_rn(sum, __dadd_rn(squared(__fmul_rn(scale, widen(gradient[i]))), eps1));
    sum = total_of_eight(sum);
    for (int block = 0; block < 4; ++block) {
      const double its = __shfl_sync(0xFFFFFFFFU, sum, 8 * block);
      if (done + block * kSumBlock < end) total = __dadd_rn(total, its);
    }
  }
  if (threadIdx.x % 32 == 0) row_sums[row] = total;
}

/// Some of the columns, in some of the spans of rows.
struct ColumnPart {
  std::int64_t first_column, columns, first_span, spans;
};

/// A thread block for 32 columns of a span: eight warps bring its rows, the first adds them in order.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    sum_columns(Grid grid, const T* gradient, float scale, double eps1, ColumnPart part, double* of_spans) {
  constexpr int kWarps = kThreads / 32, kOfWarp = static_cast<int>(kRowsOfSpan) / kWarps;
  __shared__ double tile[kRowsOfSpan][32];
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const std::int64_t in_part = std::int64_t{blockIdx.x} * 32 + lane, column = part.first_column + in_part;
  const std::int64_t first_row = (part.first_span + blockIdx.y) * kRowsOfSpan;
  float values[kOfWarp];
  bool given[kOfWarp];
#pragma unroll
  for (int i = 0; i < kOfWarp; ++i) {
    const std::int64_t row = first_row + i * kWarps + warp;
    const std::int64_t element = grid.row_begin(row) + column;
    given[i] = row < grid.rows && in_part < part.columns && element >= 0 && element < grid.count;
    values[i] = given[i] ? __fmul_rn(scale, widen(gradient[element])) : 0.0F;
  }
#pragma unroll
  for (int i = 0; i < kOfWarp; ++i)
    tile[i * kWarps + warp][lane] = given[i] ? __dadd_rn(squared(values[i]), eps1) : 0.0;
  __syncthreads();
  if (warp > 0 || in_part >= part.columns) return;
  double total = 0.0;
#pragma unroll 8
  for (int i = 0; i < kRowsOfSpan; ++i) total = __dadd_rn(total, tile[i][lane]);  // a missing 0 changes nothing
  of_spans[blockIdx.y * part.columns + in_part] = total;
}

/// A thread adds the spans of a column in order.
__global__ void add_columns(ColumnPart part, const double* of_spans, double* column_sums) {
  const std::int64_t in_part = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (in_part >= part.columns) return;
  double total = column_sums[part.first_column + in_part];
#pragma unroll 16
  for (std::int64_t span = 0; span < part.spans; ++span)
    total = __dadd_rn(total, of_spans[span * part.columns + in_part]);
  column_sums[part.first_column + in_part] = total;
}

void add_column_sums(cudaStream_t stream, const Grid& grid, const AdafactorSums& op, std::span<double> partial_sums) {
  constexpr std::int64_t kOfBlock = 64, kMostSpans = 65535;  // of a grid's second dimension
  const auto room = static_cast<std::int64_t>(partial_sums.size());
  const std::int64_t columns_at_once = std::min(grid.columns, room);
  const std::int64_t spans = (grid.rows + kRowsOfSpan - 1) / kRowsOfSpan;
  const std::int64_t spans_at_once = std::min({spans, kMostSpans, room / columns_at_once});
  auto* const sums = reinterpret_cast<double*>(op.column_sums.data());
  for (std::int64_t column = 0; column < grid.columns; column += columns_at_once)
    for (std::int64_t span = 0; span < spans; span += spans_at_once) {
      const ColumnPart part{column, std::min(columns_at_once, grid.columns - column), span,
                            std::min(spans_at_once, spans - span)};
      const dim3 blocks(static_cast<unsigned>((part.columns + 31) / 32), static_cast<unsigned>(part.spans));
      visit_storage(op.gradient.values.dtype(), [&]<typename T>(std::type_identity<T>) {
        sum_columns<<<blocks, kThreads, 0, stream>>>(grid, elements<T>(op.gradient.values), op.gradient.scale, op.eps1,
                                                     part, partial_sums.data());
      });
      spillway::cuda::check(cudaGetLastError(), "adafactor_sums: columns of spans");
      add_columns<<<static_cast<unsigned>((part.columns + kOfBlock - 1) / kOfBlock), kOfBlock, 0, stream>>>(
          part, partial_sums.data(), sums);
      spillway::cuda::check(cudaGetLastError(), "adafactor_sums: columns");
    }
}

}  // namespace

void adafactor_sums(cudaStream_t stream, const AdafactorSums& op, std::span<double> partial_sums) {
  if (op.row_sums) {
    const Grid grid = Grid::of(op.piece);
    visit_storage(op.gradient.values.dtype(), [&]<typename T>(std::type_identity<T>) {
      add_rows<<<static_cast<unsigned>((grid.rows * 32 + kThreads - 1) / kThreads), kThreads, 0, stream>>>(
          grid, elements<T>(op.gradient.values), op.gradient.scale, op.eps1,
          reinterpret_cast<double*>(op.row_sums.data()));
    });
    spillway::cuda::check(cudaGetLastError(), "adafactor_sums: rows");
    add_column_sums(stream, grid, op, partial_sums);
  }
  if (op.parameter_sum)
    add_span_sums(stream, ParameterWalk{Parameters::of(op.parameter)}, op.piece.count, op.parameter_sum, partial_sums);
}

void adafactor_update_sum(cudaStream_t stream, const AdafactorUpdateSum& op, std::span<double> partial_sums) {
  const AdafactorUpdate& update = op.update;
  visit_storage(update.gradient.values.dtype(), [&]<typename T>(std::type_identity<T>) {
    const T* const gradient = elements<T>(update.gradient.values);
    const auto add = [&](const auto& walk) { add_span_sums(stream, walk, update.piece.count, op.sum, partial_sums); };
    if (update.row_factors && update.piece.columns >= 8)
      add(UpdateWalk<T, true>{Update::of(update), gradient, update.gradient.scale});
    else add(UpdateWalk<T, false>{Update::of(update), gradient, update.gradient.scale});
  });
}

}  // namespace spillway::kernels::cuda
