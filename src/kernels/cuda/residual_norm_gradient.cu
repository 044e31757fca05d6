// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/dropout.cuh"
#include "kernels/cuda/launch.hpp"
#include "kernels/cuda/raw_octet.cuh"
#include "kernels/cuda/residual_norm.hpp"
#include "kernels/cuda/row_team.cuh"
#include "kernels/cuda/workspace.hpp"

namespace spillway::kernels::cuda {
namespace {

constexpr int kBlockWarps = 8;   // of the first kernel
constexpr int kSumColumns = 32;  // of d_weight to a block of the second kernel
constexpr int kSumParts = 32;    // into which it divides the blocks of the first

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

template <typename NormShape>
using Team = RowTeam<NormShape::kWarps, kBlockWarps / NormShape::kWarps>;

/// A team takes every so many-th row, which it reads once; its part of d_weight stays in registers. The parts of a block are then summed
/// in order.
template <typename NormShape, bool kWhole, typename T>
__global__ void __launch_bounds__(32 * kBlockWarps, NormShape::kHeld <= 2 ? 2 : 1)
    normalise_gradient(RowDropout dropout, RowDropout output_dropout, Tensors<T> tensors, std::int64_t rows,
                       int width) {
  constexpr int kHeld = NormShape::kHeld, kUnroll = NormShape::kUnroll, kLanes = Team<NormShape>::kLanes;
  constexpr int kTeams = kBlockWarps / NormShape::kWarps;
  Team<NormShape> team;
  const auto octet_of = [&](int i) { return team.lane + i * kLanes; };
  const auto left_of = [&](int i) { return width - octet_of(i) * kOctet; };
  Octet d_weight[kHeld] = {};
  for (std::int64_t row = std::int64_t{blockIdx.x} * kTeams + team.index; row < rows;
       row += std::int64_t{gridDim.x} * kTeams) {
    const std::int64_t start = row * width;
    RawOctet<T> d_normed[kHeld];
    RawOctet<float> hidden[kHeld], d_hidden[kHeld];
#pragma unroll kUnroll
    for (int i = 0; i < kHeld; ++i) {
      d_normed[i] = load_raw<kWhole>(tensors.d_normed + start + octet_of(i) * kOctet, left_of(i));
      hidden[i] = load_raw<kWhole>(tensors.hidden + start + octet_of(i) * kOctet, left_of(i));
    }
#pragma unroll kUnroll
    for (int i = 0; i < kHeld; ++i)
      d_hidden[i] = load_raw<kWhole>(tensors.d_hidden + start + octet_of(i) * kOctet, left_of(i));
    const float rstd = tensors.rstd[row];
    const DropoutRow drawn = dropout.row(row), output_drawn = output_dropout.row(row);
    const auto weight_of = [&](int i) {
      return widen(load_raw<kWhole>(tensors.weight + octet_of(i) * kOctet, left_of(i)));
    };
    const auto gradient_of_normed = [&](int i) {
      return output_dropout.of(widen(d_normed[i]), output_drawn, octet_of(i));
    };
    float dot = 0.0F;
#pragma unroll kUnroll
    for (int i = 0; i < kHeld; ++i) {
      if (left_of(i) > 0) {
        dot += sum(gradient_of_normed(i) * weight_of(i) * widen(hidden[i]));
        keep_raw(d_normed[i]);
        keep_raw(hidden[i]);
      }
    }
    const float shared = team.sum(dot) * rstd * rstd / static_cast<float>(width);
#pragma unroll kUnroll
    for (int i = 0; i < kHeld; ++i) {
      if (left_of(i) <= 0) break;
      const Octet g = gradient_of_normed(i), h = widen(hidden[i]);
      d_weight[i] = d_weight[i] + g * (h * rstd);
      const Octet inner = g * weight_of(i) + h * -shared;
      const RawOctet<float> result = narrow_raw<float>(widen(d_hidden[i]) + inner * rstd);
      store_raw<kWhole>(tensors.d_hidden + start + octet_of(i) * kOctet, result, left_of(i));
      if (tensors.d_branch != nullptr)
        store_raw<kWhole>(tensors.d_branch + start + octet_of(i) * kOctet,
                          narrow_raw<T>(dropout.of(widen(result), drawn, octet_of(i))), left_of(i));
    }
  }
  float* partials = tensors.partials + std::int64_t{blockIdx.x} * width;
  if constexpr (kTeams == 1) {
#pragma unroll kUnroll
    for (int i = 0; i < kHeld; ++i)
      if (left_of(i) > 0) store(partials + octet_of(i) * kOctet, d_weight[i], left_of(i));
  } else {
    __shared__ __align__(16) float of_teams[kTeams][kLanes * kHeld * kOctet];
#pragma unroll kUnroll
    for (int i = 0; i < kHeld; ++i) store(of_teams[team.index] + octet_of(i) * kOctet, d_weight[i], kOctet);
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
  kernel<<<static_cast<unsigned>(blocks), 32 * kBlockWarps, 0, stream>>>(
      RowDropout(op.dropout, op.sequences, width), RowDropout(op.output_dropout, op.sequences, width), tensors, rows,
      static_cast<int>(width));
}

/// d_weight += Σ over blocks: each thread sums one column over a kSumParts-th of them in order, the parts are then summed in order.
__global__ void add_partials(const float* partials, std::int64_t blocks, float* d_weight, std::int64_t width) {
  __shared__ double of_parts[kSumParts][kSumColumns];
  const std::int64_t column = std::int64_t{blockIdx.x} * kSumColumns + threadIdx.x;
  const std::int64_t share = (blocks + kSumParts - 1) / kSumParts, first = threadIdx.y * share;
  double total = 0.0;
  for (std::int64_t block = first; block < first + share && block < blocks && column < width; ++block)
    total += static_cast<double>(partials[block * width + column]);
  of_parts[threadIdx.y][threadIdx.x] = total;
  __syncthreads();
  if (threadIdx.y > 0 || column >= width) return;
  for (int part = 1; part < kSumParts; ++part) total += of_parts[part][threadIdx.x];
  d_weight[column] += static_cast<float>(total);
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
