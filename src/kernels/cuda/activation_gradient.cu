// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/activation.hpp"
#include "kernels/cuda/activation_functions.cuh"
#include "kernels/cuda/dropout.cuh"
#include "kernels/cuda/launch.hpp"
#include "kernels/cuda/raw_octet.cuh"
#include "kernels/cuda/row_place.cuh"

namespace spillway::kernels::cuda {
namespace {

/// A thread reads all that it needs of u before it writes du, which may be the same memory.
template <bool kWhole, typename Function, typename T>
__global__ void __launch_bounds__(kThreads)
    activate_gradient(RowDropout dropout, const T* u, const T* d_out, bool gated, T* du, std::int64_t rows, int width) {
  const RowPlace at(width);
  if (at.row >= rows) return;
  const std::int64_t start = at.row * (gated ? 2 * std::int64_t{width} : width);
  RawOctet<T> d[kOctetsOfThread], x[kOctetsOfThread], gate[kOctetsOfThread];
#pragma unroll
  for (int i = 0; i < kOctetsOfThread; ++i) {
    d[i] = load_raw<kWhole>(d_out + at.row * width + at.column(i), at.left(i));
    x[i] = load_raw<kWhole>(u + start + at.column(i), at.left(i));
  }
  if (gated) {
#pragma unroll
    for (int i = 0; i < kOctetsOfThread; ++i) gate[i] = load_raw<kWhole>(u + start + width + at.column(i), at.left(i));
  }
  const DropoutRow row = dropout.row(at.row);
#pragma unroll
  for (int i = 0; i < kOctetsOfThread; ++i) {
    if (at.left(i) <= 0) return;
    T* to = du + start + at.column(i);
    const Octet gradient = dropout.of(widen(d[i]), row, at.octet(i));
    Octet value = widen(x[i]), slope;
#pragma unroll
    for (int lane = 0; lane < kOctet; ++lane) {
      const ValueAndSlope f = Function::at(value.values[lane]);
      value.values[lane] = f.value;
      slope.values[lane] = f.slope;
    }
    if (gated) {
      store_raw<kWhole>(to, narrow_raw<T>(gradient * widen(gate[i]) * slope), at.left(i));
      store_raw<kWhole>(to + width, narrow_raw<T>(gradient * value), at.left(i));
    } else {
      store_raw<kWhole>(to, narrow_raw<T>(gradient * slope), at.left(i));
    }
  }
}

template <typename Function, typename T>
void launch(cudaStream_t stream, const ActivationGradient& op, std::int64_t rows, std::int64_t width) {
  const T* u = elements<T>(op.u);
  const T* d_out = elements<T>(op.d_out);
  T* du = elements<T>(op.du);
  const RowGrid cut(rows, octets_of(width));
  const auto kernel = octets_are_whole(width, u, d_out, du) ? activate_gradient<true, Function, T>
                                                            : activate_gradient<false, Function, T>;
  kernel<<<cut.grid, cut.block, 0, stream>>>(RowDropout(op.dropout, op.sequences, width), u, d_out, op.gated, du, rows,
                                             static_cast<int>(width));
}

constexpr int kOctetsByMask = 4;  // of a thread, all read before the first is used

/// Of a relu by its mask. The rows lie end to end.
template <bool kWhole, typename T>
__global__ void __launch_bounds__(kThreads)
    gradient_by_mask(const std::uint8_t* mask, float scale, const T* d_out, T* du, std::int64_t octets) {
  const std::int64_t first = std::int64_t{blockIdx.x} * (kThreads * kOctetsByMask) + threadIdx.x;
  RawOctet<T> d[kOctetsByMask];
  unsigned bits[kOctetsByMask];
#pragma unroll
  for (int i = 0; i < kOctetsByMask; ++i) {
    const std::int64_t octet = first + i * kThreads;
    const bool there = octet < octets;
    d[i] = load_raw<kWhole>(d_out + octet * kOctet, there ? kOctet : 0);
    bits[i] = there ? mask[octet] : 0U;
  }
#pragma unroll
  for (int i = 0; i < kOctetsByMask; ++i) {
    const std::int64_t octet = first + i * kThreads;
    if (octet >= octets) return;
    Octet value = widen(d[i]);
#pragma unroll
    for (int lane = 0; lane < kOctet; ++lane) value.values[lane] *= (bits[i] >> lane & 1U) != 0 ? scale : 0.0F;
    store_raw<kWhole>(du + octet * kOctet, narrow_raw<T>(value), kOctet);
  }
}

template <typename T>
void launch_by_mask(cudaStream_t stream, const ActivationGradient& op) {
  const T* d_out = elements<T>(op.d_out);
  T* du = elements<T>(op.du);
  const std::int64_t octets = op.d_out.elements() / kOctet;
  const auto kernel = octets_are_whole(kOctet, d_out, du) ? gradient_by_mask<true, T> : gradient_by_mask<false, T>;
  kernel<<<blocks_for((octets + kOctetsByMask - 1) / kOctetsByMask), kThreads, 0, stream>>>(
      elements<std::uint8_t>(op.mask), op.dropout.scale(), d_out, du, octets);
}

}  // namespace

void activation_gradient(cudaStream_t stream, const ActivationGradient& op) {
  const std::int64_t rows = op.d_out.extent(0), width = op.d_out.extent(1);
  if (rows * width == 0) return;
  if (op.mask) {
    visit_storage(op.d_out.dtype(), [&]<typename T>(std::type_identity<T>) { launch_by_mask<T>(stream, op); });
    return check_launch("activation_gradient");
  }
  visit_storage(op.u.dtype(), [&]<typename T>(std::type_identity<T>) {
    visit_function(op.kind, [&]<typename Function>(Function) { launch<Function, T>(stream, op, rows, width); });
  });
  check_launch("activation_gradient");
}

}  // namespace spillway::kernels::cuda
