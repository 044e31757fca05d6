// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/combine_block.cuh"
#include "kernels/cuda/dropout.cuh"
#include "kernels/cuda/launch.hpp"
#include "kernels/cuda/residual_norm.hpp"
#include "kernels/cuda/workspace.hpp"

namespace spillway::kernels::cuda {
namespace {

constexpr int kRowThreads = 128;
constexpr int kSumColumns = 32;  // of d_weight to a block of the second kernel
constexpr int kSumParts = 8;     // into which it divides the blocks of the first

/// H of the residual stream, T of the norm and of what goes into products.
template <typename H, typename T>
struct Tensors {
  const T* d_normed;
  const H* hidden;
  const float* rstd;
  const T* weight;
  H* d_hidden;
  T* d_branch;      // may be null
  float* partials;  // (blocks, width)
};

/// A block takes `block_rows` rows, one after the other. Its part of d_weight lies in `partials`, where each thread touches only the
/// columns that it works on.
template <typename H, typename T>
__global__ void normalise_gradient(RowDropout dropout, RowDropout output_dropout, Tensors<H, T> tensors,
                                   std::int64_t rows, std::int64_t block_rows, std::int64_t width) {
  const std::int64_t octets = octets_of(width), first = blockIdx.x * block_rows;
  const std::int64_t end = first + block_rows < rows ? first + block_rows : rows;
  float* partials = tensors.partials + blockIdx.x * width;
  for (std::int64_t row = first; row < end; ++row) {
    const float rstd = tensors.rstd[row];
    const auto gradient_of_normed = [&](std::int64_t octet, std::int64_t left) {
      return output_dropout.of(load(tensors.d_normed + row * width + octet * kOctet, left), row, octet);
    };
    float dot = 0.0F;
    for (std::int64_t octet = threadIdx.x; octet < octets; octet += kRowThreads) {
      const std::int64_t left = width - octet * kOctet;
      dot += sum(gradient_of_normed(octet, left) * load(tensors.weight + octet * kOctet, left) *
                 load(tensors.hidden + row * width + octet * kOctet, left));
    }
    const float shared = block_sum<kRowThreads>(dot) * rstd * rstd / static_cast<float>(width);
    for (std::int64_t octet = threadIdx.x; octet < octets; octet += kRowThreads) {
      const std::int64_t left = width - octet * kOctet, element = row * width + octet * kOctet;
      const Octet g = gradient_of_normed(octet, left);
      const Octet hidden = load(tensors.hidden + element, left);
      float* partial = partials + octet * kOctet;
      const Octet before = row == first ? Octet{} : load(partial, left);
      store(partial, before + g * (hidden * rstd), left);
      const Octet inner = g * load(tensors.weight + octet * kOctet, left) + hidden * -shared;
      const Octet d_hidden = as_stored<H>(load(tensors.d_hidden + element, left) + inner * rstd);
      store(tensors.d_hidden + element, d_hidden, left);
      if (tensors.d_branch != nullptr) store(tensors.d_branch + element, dropout.of(d_hidden, row, octet), left);
    }
  }
}

/// d_weight += Σ over blocks: each thread sums one column of every kSumParts-th part in order, the parts are then summed in order.
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
  const std::int64_t block_rows = (rows + kNormBlocks - 1) / kNormBlocks;
  const std::int64_t blocks = (rows + block_rows - 1) / block_rows;
  auto* partials = reinterpret_cast<float*>(workspace.data());
  visit_stream(op.hidden.dtype(), op.weight.dtype(),
               [&]<typename H, typename T>(std::type_identity<H>, std::type_identity<T>) {
                 const Tensors<H, T> tensors{.d_normed = elements<T>(op.d_normed),
                                             .hidden = elements<H>(op.hidden),
                                             .rstd = elements<float>(op.rstd),
                                             .weight = elements<T>(op.weight),
                                             .d_hidden = elements<H>(op.d_hidden),
                                             .d_branch = elements<T>(op.d_branch),
                                             .partials = partials};
                 normalise_gradient<H, T><<<static_cast<unsigned>(blocks), kRowThreads, 0, stream>>>(
                     RowDropout(op.dropout, op.sequences, width), RowDropout(op.output_dropout, op.sequences, width),
                     tensors, rows, block_rows, width);
               });
  check_launch("residual_norm_gradient");
  add_partials<<<static_cast<unsigned>((width + kSumColumns - 1) / kSumColumns), dim3(kSumColumns, kSumParts), 0,
                 stream>>>(partials, blocks, elements<float>(op.d_weight), width);
  check_launch("residual_norm_gradient");
}

}  // namespace spillway::kernels::cuda
