// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/activation.hpp"
#include "kernels/cuda/activation_functions.cuh"
#include "kernels/cuda/dropout.cuh"
#include "kernels/cuda/launch.hpp"

namespace spillway::kernels::cuda {
namespace {

/// A thread for each octet of `out`.
template <typename Function, typename T>
__global__ void activate(RowDropout dropout, const T* u, bool gated, T* out, std::int64_t rows, std::int64_t width) {
  const std::int64_t octets = octets_of(width);
  const std::int64_t item = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const std::int64_t row = item / octets, octet = item % octets;
  if (row >= rows) return;
  const std::int64_t column = octet * kOctet, left = width - column;
  const T* from = u + row * (gated ? 2 * width : width) + column;
  const Octet x = load(from, left);
  Octet value = combine(x, x, [](float a, float) { return Function::at(a).value; });
  if (gated) value = value * load(from + width, left);
  store(out + row * width + column, dropout.of(value, row, octet), left);
}

}  // namespace

void activation(cudaStream_t stream, const Activation& op) {
  const std::int64_t rows = op.out.extent(0), width = op.out.extent(1);
  if (rows * width == 0) return;
  visit_storage(op.u.dtype(), [&]<typename T>(std::type_identity<T>) {
    visit_function(op.kind, [&]<typename Function>(Function) {
      activate<Function, T><<<blocks_for(rows * octets_of(width)), kThreads, 0, stream>>>(
          RowDropout(op.dropout, op.sequences, width), elements<T>(op.u), op.gated, elements<T>(op.out), rows, width);
    });
  });
  check_launch("activation");
}

}  // namespace spillway::kernels::cuda
