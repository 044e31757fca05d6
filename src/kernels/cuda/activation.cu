// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/activation.hpp"
#include "kernels/cuda/activation_functions.cuh"
#include "kernels/cuda/dropout.cuh"
#include "kernels/cuda/launch.hpp"
#include "kernels/cuda/raw_octet.cuh"
#include "kernels/cuda/row_place.cuh"

namespace spillway::kernels::cuda {
namespace {

/// The mask's byte of an octet of a relu. Rounding makes none of them 0: what is not 0 is no smaller than an element of u.
__device__ inline std::uint8_t nonzero(const Octet& octet) {
  unsigned bits = 0;
#pragma unroll
  for (int i = 0; i < kOctet; ++i)
    if (octet.values[i] != 0.0F) bits |= 1U << i;
  return static_cast<std::uint8_t>(bits);
}

/// A thread reads all that it needs of u before it writes out, which may be the same memory.
template <bool kWhole, typename Function, typename T>
__global__ void __launch_bounds__(kThreads)
    activate(RowDropout dropout, const T* u, bool gated, T* out, std::uint8_t* mask, std::int64_t rows, int width) {
  const RowPlace at(width);
  if (at.row >= rows) return;
  const T* from = u + at.row * (gated ? 2 * std::int64_t{width} : width);
  RawOctet<T> x[kOctetsOfThread], gate[kOctetsOfThread];
#pragma unroll
  for (int i = 0; i < kOctetsOfThread; ++i) x[i] = load_raw<kWhole>(from + at.column(i), at.left(i));
  if (gated) {
#pragma unroll
    for (int i = 0; i < kOctetsOfThread; ++i) gate[i] = load_raw<kWhole>(from + width + at.column(i), at.left(i));
  }
  const DropoutRow row = dropout.row(at.row);
#pragma unroll
  for (int i = 0; i < kOctetsOfThread; ++i) {
    if (at.left(i) <= 0) return;
    Octet value = apply(widen(x[i]), [](float a) { return Function::at(a).value; });
    if (gated) value = value * widen(gate[i]);
    value = dropout.of(value, row, at.octet(i));
    store_raw<kWhole>(out + at.row * width + at.column(i), narrow_raw<T>(value), at.left(i));
    if (mask != nullptr) mask[(at.row * width + at.column(i)) / kOctet] = nonzero(value);
  }
}

template <typename Function, typename T>
void launch(cudaStream_t stream, const Activation& op, std::int64_t rows, std::int64_t width) {
  const T* u = elements<T>(op.u);
  T* out = elements<T>(op.out);
  const RowGrid cut(rows, octets_of(width));
  const auto kernel = octets_are_whole(width, u, out) ? activate<true, Function, T> : activate<false, Function, T>;
  kernel<<<cut.grid, cut.block, 0, stream>>>(RowDropout(op.dropout, op.sequences, width), u, op.gated, out,
                                             elements<std::uint8_t>(op.mask), rows, static_cast<int>(width));
}

}  // namespace

void activation(cudaStream_t stream, const Activation& op) {
  const std::int64_t rows = op.out.extent(0), width = op.out.extent(1);
  if (rows * width == 0) return;
  visit_storage(op.u.dtype(), [&]<typename T>(std::type_identity<T>) {
    visit_function(op.kind, [&]<typename Function>(Function) { launch<Function, T>(stream, op, rows, width); });
  });
  check_launch("activation");
}

}  // namespace spillway::kernels::cuda
