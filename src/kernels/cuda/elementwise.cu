// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/dropout.cuh"
#include "kernels/cuda/elementwise.hpp"
#include "kernels/cuda/launch.hpp"
#include "kernels/cuda/raw_octet.cuh"
#include "kernels/cuda/row_place.cuh"

namespace spillway::kernels::cuda {
namespace {

/// to = (base, if it is given) + dropout(branch).
template <bool kWhole, typename From, typename To>
__global__ void __launch_bounds__(kThreads)
    add_dropped(RowDropout dropout, const To* base, const From* branch, To* to, std::int64_t rows, int width) {
  const RowPlace at(width);
  if (at.row >= rows) return;
  const std::int64_t start = at.row * width;
  RawOctet<From> added[kOctetsOfThread];
  RawOctet<To> before[kOctetsOfThread];
#pragma unroll
  for (int i = 0; i < kOctetsOfThread; ++i) added[i] = load_raw<kWhole>(branch + start + at.column(i), at.left(i));
  if (base != nullptr) {
#pragma unroll
    for (int i = 0; i < kOctetsOfThread; ++i) before[i] = load_raw<kWhole>(base + start + at.column(i), at.left(i));
  }
  const DropoutRow row = dropout.row(at.row);
#pragma unroll
  for (int i = 0; i < kOctetsOfThread; ++i) {
    if (at.left(i) <= 0) return;
    Octet value = dropout.of(widen(added[i]), row, at.octet(i));
    if (base != nullptr) value = widen(before[i]) + value;
    store_raw<kWhole>(to + start + at.column(i), narrow_raw<To>(value), at.left(i));
  }
}

template <typename T>
__global__ void add_elements(const T* from, float* to, std::int64_t count) {
  const std::int64_t element = (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) * kOctet;
  if (element >= count) return;
  const std::int64_t left = count - element;
  store(to + element, load(to + element, left) + load(from + element, left), left);
}

template <typename From, typename To>
__global__ void convert_elements(const From* from, To* to, std::int64_t count) {
  const std::int64_t element = (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) * kOctet;
  if (element >= count) return;
  store(to + element, load(from + element, count - element), count - element);
}

template <typename From, typename To>
void launch_add_dropped(cudaStream_t stream, const Dropout& settings, const PackedSequences& sequences, const To* base,
                        const ConstTensorView& branch, To* to) {
  const std::int64_t rows = branch.extent(0), width = branch.extent(1);
  if (rows * width == 0) return;
  const RowGrid cut(rows, octets_of(width));
  const From* from = elements<From>(branch);
  const auto kernel =
      octets_are_whole(width, base, from, to) ? add_dropped<true, From, To> : add_dropped<false, From, To>;
  kernel<<<cut.grid, cut.block, 0, stream>>>(RowDropout(settings, sequences, width), base, from, to, rows,
                                             static_cast<int>(width));
  check_launch("residual_add");
}

}  // namespace

void residual_add(cudaStream_t stream, const ResidualAdd& op) {
  const auto launch =
      op.branch.dtype() == DType::bf16 ? launch_add_dropped<__nv_bfloat16, float> : launch_add_dropped<float, float>;
  launch(stream, op.dropout, op.sequences, elements<float>(op.hidden_in), op.branch, elements<float>(op.hidden_out));
}

void residual_add_gradient(cudaStream_t stream, const ResidualAddGradient& op) {
  visit_storage(op.d_branch.dtype(), [&]<typename T>(std::type_identity<T>) {
    launch_add_dropped<float, T>(stream, op.dropout, op.sequences, nullptr, op.d_hidden, elements<T>(op.d_branch));
  });
}

void fill_zero(cudaStream_t stream, const TensorView& tensor) {
  if (tensor.bytes() == 0) return;
  spillway::cuda::check(cudaMemsetAsync(tensor.data(), 0, tensor.bytes(), stream), "cudaMemsetAsync");
}

void add(cudaStream_t stream, const ConstTensorView& from, const TensorView& to) {
  const std::int64_t count = to.elements();
  if (count == 0) return;
  visit_storage(from.dtype(), [&]<typename T>(std::type_identity<T>) {
    add_elements<T>
        <<<blocks_for(octets_of(count)), kThreads, 0, stream>>>(elements<T>(from), elements<float>(to), count);
  });
  check_launch("add");
}

void convert(cudaStream_t stream, const ConstTensorView& from, const TensorView& to) {
  const std::int64_t count = to.elements();
  if (count == 0) return;
  visit_storage(from.dtype(), [&]<typename From>(std::type_identity<From>) {
    visit_storage(to.dtype(), [&]<typename To>(std::type_identity<To>) {
      convert_elements<From, To>
          <<<blocks_for(octets_of(count)), kThreads, 0, stream>>>(elements<From>(from), elements<To>(to), count);
    });
  });
  check_launch("convert");
}

}  // namespace spillway::kernels::cuda
