// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/activation.hpp"
#include "kernels/cuda/activation_functions.cuh"
#include "kernels/cuda/dropout.cuh"
#include "kernels/cuda/launch.hpp"

namespace spillway::kernels::cuda {
namespace {

/// A thread for each octet of d_out. It reads all that it needs of u before it writes du, which may be the same memory.
template <typename Function, typename T>
__global__ void activate_gradient(RowDropout dropout, const T* u, const T* d_out, bool gated, T* du, std::int64_t rows,
                                  std::int64_t width) {
  const std::int64_t octets = octets_of(width);
  const std::int64_t item = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const std::int64_t row = item / octets, octet = item % octets;
  if (row >= rows) return;
  const std::int64_t column = octet * kOctet, left = width - column;
  const std::int64_t element = row * (gated ? 2 * width : width) + column;
  const Octet d = dropout.of(load(d_out + row * width + column, left), row, octet);
  const Octet x = load(u + element, left);
  const Octet slope = combine(x, x, [](float a, float) { return Function::at(a).slope; });
  if (!gated) return store(du + element, d * slope, left);
  const Octet gate = load(u + element + width, left);
  const Octet value = combine(x, x, [](float a, float) { return Function::at(a).value; });
  store(du + element, d * gate * slope, left);
  store(du + element + width, d * value, left);
}

}  // namespace

void activation_gradient(cudaStream_t stream, const ActivationGradient& op) {
  const std::int64_t rows = op.d_out.extent(0), width = op.d_out.extent(1);
  if (rows * width == 0) return;
  visit_storage(op.u.dtype(), [&]<typename T>(std::type_identity<T>) {
    visit_function(op.kind, [&]<typename Function>(Function) {
      activate_gradient<Function, T><<<blocks_for(rows * octets_of(width)), kThreads, 0, stream>>>(
          RowDropout(op.dropout, op.sequences, width), elements<T>(op.u), elements<T>(op.d_out), op.gated,
          elements<T>(op.du), rows, width);
    });
  });
  check_launch("activation_gradient");
}

}  // namespace spillway::kernels::cuda
