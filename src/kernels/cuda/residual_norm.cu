// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/combine_block.cuh"
#include "kernels/cuda/dropout.cuh"
#include "kernels/cuda/launch.hpp"
#include "kernels/cuda/residual_norm.hpp"

namespace spillway::kernels::cuda {
namespace {

constexpr int kRowThreads = 128;

/// H of the residual stream, T of the norm.
template <typename H, typename T>
struct Tensors {
  const H* hidden_in;
  const H* branch;  // may be null
  const T* weight;
  H* hidden_out;  // may be null if branch is
  T* normed;
  float* rstd;
};

/// A block for each row. A thread reads back only what it wrote itself.
template <typename H, typename T>
__global__ void normalise(RowDropout dropout, RowDropout output_dropout, Tensors<H, T> tensors, std::int64_t width,
                          float epsilon) {
  const std::int64_t row = blockIdx.x, octets = octets_of(width);
  float squares = 0.0F;
  for (std::int64_t octet = threadIdx.x; octet < octets; octet += kRowThreads) {
    const std::int64_t left = width - octet * kOctet, element = row * width + octet * kOctet;
    Octet hidden = load(tensors.hidden_in + element, left);
    if (tensors.branch != nullptr)
      hidden = as_stored<H>(hidden + dropout.of(load(tensors.branch + element, left), row, octet));
    if (tensors.hidden_out != nullptr) store(tensors.hidden_out + element, hidden, left);
    squares += sum(hidden * hidden);
  }
  squares = block_sum<kRowThreads>(squares);
  const float rstd = 1.0F / sqrtf(squares / static_cast<float>(width) + epsilon);
  if (threadIdx.x == 0) tensors.rstd[row] = rstd;
  const H* hidden_of = tensors.hidden_out != nullptr ? tensors.hidden_out : tensors.hidden_in;
  for (std::int64_t octet = threadIdx.x; octet < octets; octet += kRowThreads) {
    const std::int64_t left = width - octet * kOctet, element = row * width + octet * kOctet;
    const Octet value = load(hidden_of + element, left) * rstd * load(tensors.weight + octet * kOctet, left);
    store(tensors.normed + element, output_dropout.of(value, row, octet), left);
  }
}

}  // namespace

void residual_norm(cudaStream_t stream, const ResidualNorm& op) {
  const std::int64_t rows = op.hidden_in.extent(0), width = op.hidden_in.extent(1);
  if (rows == 0) return;
  visit_stream(op.hidden_in.dtype(), op.weight.dtype(),
               [&]<typename H, typename T>(std::type_identity<H>, std::type_identity<T>) {
                 const Tensors<H, T> tensors{.hidden_in = elements<H>(op.hidden_in),
                                             .branch = elements<H>(op.branch),
                                             .weight = elements<T>(op.weight),
                                             .hidden_out = elements<H>(op.hidden_out),
                                             .normed = elements<T>(op.normed),
                                             .rstd = elements<float>(op.rstd)};
                 normalise<H, T><<<static_cast<unsigned>(rows), kRowThreads, 0, stream>>>(
                     RowDropout(op.dropout, op.sequences, width), RowDropout(op.output_dropout, op.sequences, width),
                     tensors, width, op.epsilon);
               });
  check_launch("residual_norm");
}

}  // namespace spillway::kernels::cuda
