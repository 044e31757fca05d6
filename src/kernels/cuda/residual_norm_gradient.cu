// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/dropout.cuh"
#include "kernels/cuda/launch.hpp"
#include "kernels/cuda/residual_norm.hpp"
#include "kernels/cuda/row_team.cuh"
#include "kernels/cuda/split_octet.cuh"
#include "kernels/cuda/workspace.hpp"

namespace spillway::kernels::cuda {
namespace {

constexpr int kSumColumns = 32;  // of d_weight to a block of the second kernel
constexpr int kSumParts = 32;    // into which it divides the blocks of the first
constexpr int kSumShare = (kNormBlocks + kSumParts - 1) / kSumParts;

/// T of the norm and of what goes into products.
template <typename T>
struct Tensors {
  const T* d_normed;
  const float* hidden;
  const float* rstd;
  const T* weight;
  float* d_hidden;
  T* d_branch;      // may be null
  float* partials;  // (blocks, width)
};

/// Sixteen warps in a block of the first kernel, where their parts of d_weight fit into its shared memory.
template <typename NormShape>
using Team = RowTeam<NormShape::kWarps, (NormShape::kHeld <= 2 ? 16 : NormShape::kWarps) / NormShape::kWarps>;

/// A team takes every so many-th row, which it reads once; its part of d_weight stays in registers. The parts of a block are then summed
/// in order.
template <typename NormShape, bool kWhole, typename T>
__global__ void __launch_bounds__(Team<NormShape>::kBlock, NormShape::kHeld == 1 ? 2 : 1)
    normalise_gradient(RowDropout dropout, RowDropout output_dropout, Tensors<T> tensors, std::int64_t rows,
                       int width) {
  constexpr int kHeld = NormShape::kHeld, kUnroll = NormShape::kUnroll, kLanes = Team<NormShape>::kLanes;
  constexpr int kTeams = Team<NormShape>::kBlock / kLanes;
  Team<NormShape> team;
  const SplitPlace<NormShape> at(team.lane, width);
  Octet d_weight[kHeld] = {};
  const std::int64_t first_row = std::int64_t{blockIdx.x} * kTeams + team.index;
  if (first_row >= rows) (void)team.sum(0.0F);  // racecheck loses count of a block's barriers where some are never used
  for (std::int64_t row = first_row; row < rows; row += std::int64_t{gridDim.x} * kTeams) {
    const std::int64_t start = row * width;
    RawOctet<T> d_normed[kHeld];
    RawOctet<float> hidden[kHeld], d_hidden[kHeld];
#pragma unroll kUnroll
    for (int i = 0; i < kHeld; ++i) {
      d_normed[i] = load_split<kWhole>(tensors.d_normed + start + at.column(i), at.left(i));
      hidden[i] = load_split<kWhole>(tensors.hidden + start + at.column(i), at.left(i));
    }
#pragma unroll kUnroll
    for (int i = 0; i < kHeld; ++i)
      d_hidden[i] = load_split<kWhole, float>(tensors.d_hidden + start + at.column(i), at.left(i));
    const float rstd = tensors.rstd[row];
    const DropoutRow drawn = dropout.row(row), output_drawn = output_dropout.row(row);
    const auto weight_of = [&](int i) { return widen(load_split<kWhole>(tensors.weight + at.column(i), at.left(i))); };
    const auto gradient_of_normed = [&](int i) {
      return output_dropout.of_split(widen(d_normed[i]), output_drawn, at.octet(i));
    };
    float dot = 0.0F;
#pragma unroll kUnroll
    for (int i = 0; i < kHeld; ++i) {
      dot += sum(gradient_of_normed(i) * weight_of(i) * widen(hidden[i]));
      keep_raw(d_normed[i]);
      keep_raw(hidden[i]);
    }
    const float shared = team.sum(dot) * rstd * rstd / static_cast<float>(width);
#pragma unroll kUnroll
    for (int i = 0; i < kHeld; ++i) {
      const Octet g = gradient_of_normed(i), h = widen(hidden[i]);
      d_weight[i] = d_weight[i] + g * (h * rstd);
      const Octet inner = g * weight_of(i) + h * -shared;
      const RawOctet<float> result = narrow_raw<float>(widen(d_hidden[i]) + inner * rstd);
      store_split<kWhole>(tensors.d_hidden + start + at.column(i), result, at.left(i));
      if (tensors.d_branch != nullptr)
        store_split<kWhole>(tensors.d_branch + start + at.column(i),
                            narrow_raw<T>(dropout.of_split(widen(result), drawn, at.octet(i))), at.left(i));
    }
  }
  float* partials = tensors.partials + std::int64_t{blockIdx.x} * width;
  if constexpr (kTeams == 1) {
#pragma unroll kUnroll
    for (int i = 0; i < kHeld; ++i)
      store_split<false>(partials + at.column(i), narrow_raw<float>(d_weight[i]), at.left(i));
  } else {
    __shared__ __align__(16) float of_teams[kTeams][kLanes * kHeld * kOctet];
#pragma unroll kUnroll
    for (int i = 0; i < kHeld; ++i)
      store_split<true>(of_teams[team.index] + at.column(i), narrow_raw<float>(d_weight[i]), kSplitColumns);
    __syncthreads();
    for (int column = static_cast<int>(threadIdx.x); column < width; column += Team<NormShape>::kBlock) {
      float total = of_teams[0][column];
#pragma unroll
      for (int other = 1; other < kTeams; ++other) total += of_teams[other][column];
      partials[column] = total;
    }
  }
}

template <typename NormShape, typename T>
void launch(cudaStream_t stream, const ResidualNormGradient& op, const Tensors<T>& tensors, std::int64_t blocks) {
  const std::int64_t rows = op.hidden.extent(0), width = op.hidden.extent(1);
  const bool whole =
      octets_are_whole(width, tensors.d_normed, tensors.hidden, tensors.weight, tensors.d_hidden, tensors.d_branch);
  const auto kernel = whole ? normalise_gradient<NormShape, true, T> : normalise_gradient<NormShape, false, T>;
  kernel<<<static_cast<unsigned>(blocks), Team<NormShape>::kBlock, 0, stream>>>(
      RowDropout(op.dropout, op.sequences, width), RowDropout(op.output_dropout, op.sequences, width), tensors, rows,
      static_cast<int>(width));
}

/// d_weight += Σ over blocks: each thread sums one column over a kSumParts-th of them in order, which it reads all at once; a warp then
/// adds the parts of a column as a tree.
__global__ void add_partials(const float* partials, std::int64_t blocks, float* d_weight, std::int64_t width) {
  __shared__ double of_parts[kSumParts][kSumColumns + 1];
  const std::int64_t first_column = std::int64_t{blockIdx.x} * kSumColumns, column = first_column + threadIdx.x;
  float share[kSumShare];
#pragma unroll
  for (int i = 0; i < kSumShare; ++i) {
    const std::int64_t block = std::int64_t{threadIdx.y} * kSumShare + i;
    share[i] = block < blocks && column < width ? partials[block * width + column] : 0.0F;
  }
  double total = 0.0;
#pragma unroll
  for (int i = 0; i < kSumShare; ++i) total += static_cast<double>(share[i]);
  of_parts[threadIdx.y][threadIdx.x] = total;
  __syncthreads();
  total = of_parts[threadIdx.x][threadIdx.y];
#pragma unroll
  for (int step = kSumParts / 2; step > 0; step /= 2) total += __shfl_xor_sync(0xFFFFFFFFU, total, step);
  const std::int64_t of_warp = first_column + threadIdx.y;
  if (threadIdx.x == 0 && of_warp < width) d_weight[of_warp] += static_cast<float>(total);
}

}  // namespace

void residual_norm_gradient(cudaStream_t stream, std::span<std::byte> workspace, const ResidualNormGradient& op) {
  const std::int64_t rows = op.hidden.extent(0), width = op.hidden.extent(1);
  if (rows * width == 0) return;
  require_workspace("residual_norm_gradient", residual_norm_workspace_bytes(width), workspace.size());
  const std::int64_t blocks = std::min(kNormBlocks, rows);
  auto* partials = reinterpret_cast<float*>(workspace.data());
  visit_storage(op.weight.dtype(), [&]<typename T>(std::type_identity<T>) {
    const Tensors<T> tensors{.d_normed = elements<T>(op.d_normed),
                             .hidden = elements<float>(op.hidden),
                             .rstd = elements<float>(op.rstd),
                             .weight = elements<T>(op.weight),
                             .d_hidden = elements<float>(op.d_hidden),
                             .d_branch = elements<T>(op.d_branch),
                             .partials = partials};
    visit_norm_shape(width, [&]<typename NormShape>(NormShape) { launch<NormShape>(stream, op, tensors, blocks); });
  });
  check_launch("residual_norm_gradient");
  add_partials<<<static_cast<unsigned>((width + kSumColumns - 1) / kSumColumns), dim3(kSumColumns, kSumParts), 0,
                 stream>>>(partials, blocks, elements<float>(op.d_weight), width);
  check_launch("residual_norm_gradient");
}

}  // namespace spillway::kernels::cuda
