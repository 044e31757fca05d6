// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "kernels/cuda/dropout.cuh"
#include "kernels/cuda/launch.hpp"
#include "kernels/cuda/residual_norm.hpp"
#include "kernels/cuda/row_team.cuh"
#include "kernels/cuda/split_octet.cuh"

namespace spillway::kernels::cuda {
namespace {

/// T of the norm.
template <typename T>
struct Tensors {
  const float* hidden_in;
  const BranchOf<T>* branch;  // may be null
  const T* weight;
  float* hidden_out;  // may be null if branch is
  T* normed;
  float* rstd;
};

/// Four teams of a warp in a block, or one larger team.
template <typename NormShape>
using Team = RowTeam<NormShape::kWarps, (NormShape::kWarps == 1 ? 4 : 1)>;

/// What a multiprocessor holds.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900  // of those before Hopper not all hold more
constexpr int kMostThreads = 1024, kMostBlocks = 16;
#else
constexpr int kMostThreads = 2048, kMostBlocks = 32;
#endif

/// Blocks of a multiprocessor, at least: what they read ahead of their sums has to keep its memory busy.
template <typename NormShape>
constexpr int kResident = std::min(std::min(NormShape::kHeld == 1 ? 1280 : 1024, kMostThreads) /
                                       Team<NormShape>::kBlock,
                                   kMostBlocks);

/// A team for each row, which it reads once.
template <typename NormShape, bool kWhole, typename T>
__global__ void __launch_bounds__(Team<NormShape>::kBlock, kResident<NormShape>)
    normalise(RowDropout dropout, RowDropout output_dropout, Tensors<T> tensors, std::int64_t rows, int width,
              float epsilon) {
  constexpr int kHeld = NormShape::kHeld, kUnroll = NormShape::kUnroll, kLanes = Team<NormShape>::kLanes;
  Team<NormShape> team;
  const std::int64_t row = std::int64_t{blockIdx.x} * (Team<NormShape>::kBlock / kLanes) + team.index;
  if (row >= rows) return;
  const SplitPlace<NormShape> at(team.lane, width);
  const std::int64_t start = row * width;
  RawOctet<float> hidden[kHeld];
  RawOctet<BranchOf<T>> branch[kHeld];
  RawOctet<T> weight[kHeld];
#pragma unroll kUnroll
  for (int i = 0; i < kHeld; ++i) hidden[i] = load_split<kWhole>(tensors.hidden_in + start + at.column(i), at.left(i));
  if (tensors.branch != nullptr) {
#pragma unroll kUnroll
    for (int i = 0; i < kHeld; ++i) branch[i] = load_split<kWhole>(tensors.branch + start + at.column(i), at.left(i));
  }
  const DropoutRow drawn = dropout.row(row), output_drawn = output_dropout.row(row);
#pragma unroll kUnroll
  for (int i = 0; i < kHeld; ++i) weight[i] = load_split<kWhole>(tensors.weight + at.column(i), at.left(i));
  if (tensors.branch != nullptr) {
#pragma unroll kUnroll
    for (int i = 0; i < kHeld; ++i)
      hidden[i] = narrow_raw<float>(widen(hidden[i]) + dropout.of_split(widen(branch[i]), drawn, at.octet(i)));
  }
  float squares = 0.0F;
#pragma unroll kUnroll
  for (int i = 0; i < kHeld; ++i) {
    if (tensors.hidden_out != nullptr)
      store_split<kWhole>(tensors.hidden_out + start + at.column(i), hidden[i], at.left(i));
    const Octet value = widen(hidden[i]);
    squares += sum(value * value);
  }
  squares = team.sum(squares);
  const float rstd = 1.0F / sqrtf(squares / static_cast<float>(width) + epsilon);
  if (team.lane == 0) tensors.rstd[row] = rstd;
#pragma unroll kUnroll
  for (int i = 0; i < kHeld; ++i) {
    const Octet value = output_dropout.of_split(widen(hidden[i]) * rstd * widen(weight[i]), output_drawn, at.octet(i));
    store_split<kWhole>(tensors.normed + start + at.column(i), narrow_raw<T>(value), at.left(i));
  }
}

template <typename NormShape, typename T>
void launch(cudaStream_t stream, const ResidualNorm& op, const Tensors<T>& tensors) {
  const std::int64_t rows = op.hidden_in.extent(0), width = op.hidden_in.extent(1);
  const bool whole =
      octets_are_whole(width, tensors.hidden_in, tensors.branch, tensors.weight, tensors.hidden_out, tensors.normed);
  constexpr int kBlock = Team<NormShape>::kBlock;
  constexpr std::int64_t kTeams = kBlock / Team<NormShape>::kLanes;
  const auto kernel = whole ? normalise<NormShape, true, T> : normalise<NormShape, false, T>;
  kernel<<<static_cast<unsigned>((rows + kTeams - 1) / kTeams), kBlock, 0, stream>>>(
      RowDropout(op.dropout, op.sequences, width), RowDropout(op.output_dropout, op.sequences, width), tensors, rows,
      static_cast<int>(width), op.epsilon);
}

}  // namespace

void residual_norm(cudaStream_t stream, const ResidualNorm& op) {
  const std::int64_t rows = op.hidden_in.extent(0), width = op.hidden_in.extent(1);
  if (rows == 0) return;
  visit_storage(op.weight.dtype(), [&]<typename T>(std::type_identity<T>) {
    const Tensors<T> tensors{.hidden_in = elements<float>(op.hidden_in),
                             .branch = elements<BranchOf<T>>(op.branch),
                             .weight = elements<T>(op.weight),
                             .hidden_out = elements<float>(op.hidden_out),
                             .normed = elements<T>(op.normed),
                             .rstd = elements<float>(op.rstd)};
    visit_norm_shape(width, [&]<typename NormShape>(NormShape) { launch<NormShape>(stream, op, tensors); });
  });
  check_launch("residual_norm");
}

}  // namespace spillway::kernels::cuda
