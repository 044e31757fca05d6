// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/dropout.cuh"
#include "kernels/cuda/elementwise.hpp"
#include "kernels/cuda/launch.hpp"

namespace spillway::kernels::cuda {
namespace {

/// to = (base, if it is given) + dropout(branch). A thread for each octet.
template <typename From, typename To>
__global__ void add_dropped(RowDropout dropout, const From* base, const From* branch, To* to, std::int64_t rows,
                            std::int64_t width) {
  const std::int64_t octets = octets_of(width);
  const std::int64_t item = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const std::int64_t row = item / octets, octet = item % octets;
  if (row >= rows) return;
  const std::int64_t left = width - octet * kOctet, element = row * width + octet * kOctet;
  Octet value = dropout.of(load(branch + element, left), row, octet);
  if (base != nullptr) value = load(base + element, left) + value;
  store(to + element, value, left);
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
void launch_add_dropped(cudaStream_t stream, const Dropout& settings, const PackedSequences& sequences,
                        const From* base, const ConstTensorView& branch, To* to) {
  const std::int64_t rows = branch.extent(0), width = branch.extent(1);
  if (rows * width == 0) return;
  add_dropped<From, To><<<blocks_for(rows * octets_of(width)), kThreads, 0, stream>>>(
      RowDropout(settings, sequences, width), base, elements<From>(branch), to, rows, width);
  check_launch("residual_add");
}

}  // namespace

void residual_add(cudaStream_t stream, const ResidualAdd& op) {
  visit_storage(op.branch.dtype(), [&]<typename T>(std::type_identity<T>) {
    launch_add_dropped<T, T>(stream, op.dropout, op.sequences, elements<T>(op.hidden_in), op.branch,
                             elements<T>(op.hidden_out));
  });
}

void residual_add_gradient(cudaStream_t stream, const ResidualAddGradient& op) {
  visit_stream(op.d_hidden.dtype(), op.d_branch.dtype(),
               [&]<typename H, typename T>(std::type_identity<H>, std::type_identity<T>) {
                 launch_add_dropped<H, T>(stream, op.dropout, op.sequences, nullptr, op.d_hidden,
                                          elements<T>(op.d_branch));
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
