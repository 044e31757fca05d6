// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/launch.hpp"
#include "kernels/cuda/octet.cuh"
#include "kernels/cuda/wide_pieces.hpp"

namespace spillway::kernels::cuda {
namespace {

/// \param step  what each piece after the first is multiplied by before it is rounded
template <typename T>
__global__ void take_pieces(Piece piece, float step, const float* from, T* to, std::int64_t count) {
  const std::int64_t element = (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) * kOctet;
  if (element >= count) return;
  Octet values = load(from + element, count - element);
#pragma unroll
  for (int i = 0; i < kOctet; ++i) {
    float& value = values.values[i];
    // Both differences are exact; storing rounds the last of them.
    if (piece != Piece::high) value = (value - as_stored<T>(value)) * step;
    if (piece == Piece::low) value = (value - as_stored<T>(value)) * step;
  }
  store(to + element, values, count - element);
}

template <typename T>
__global__ void round_all(const float* sums, bool add, T* to, std::int64_t count) {
  const std::int64_t element = (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) * kOctet;
  if (element >= count) return;
  const std::int64_t left = count - element;
  Octet values = load(sums + element, left);
  if (add) values = values + load(to + element, left);
  store(to + element, values, left);
}

}  // namespace

float weight_of(Piece piece, DType dtype) noexcept {
  if (dtype != DType::f16 || piece == Piece::high) return 1.0F;
  return piece == Piece::middle ? 0x1p-11F : 0x1p-22F;
}

void take_piece(cudaStream_t stream, Piece piece, const ConstTensorView& from, const TensorView& to) {
  const std::int64_t count = from.elements();
  if (count == 0) return;
  const float step = 1.0F / weight_of(Piece::middle, to.dtype());
  visit_storage(to.dtype(), [&]<typename T>(std::type_identity<T>) {
    take_pieces<T><<<blocks_for(octets_of(count)), kThreads, 0, stream>>>(piece, step, elements<float>(from),
                                                                          elements<T>(to), count);
  });
  check_launch("take_piece");
}

void round_sums(cudaStream_t stream, const ConstTensorView& sums, Output output, const TensorView& to) {
  const std::int64_t count = to.elements();
  if (count == 0) return;
  visit_storage(to.dtype(), [&]<typename T>(std::type_identity<T>) {
    round_all<T><<<blocks_for(octets_of(count)), kThreads, 0, stream>>>(elements<float>(sums), output == Output::add,
                                                                        elements<T>(to), count);
  });
  check_launch("round_sums");
}

}  // namespace spillway::kernels::cuda
