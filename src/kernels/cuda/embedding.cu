// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/dropout.cuh"
#include "kernels/cuda/embedding.hpp"
#include "kernels/cuda/launch.hpp"

namespace spillway::kernels::cuda {
namespace {

/// A thread for each octet of `out`.
template <typename T>
__global__ void look_up(RowDropout dropout, const std::int32_t* ids, const T* table, std::int64_t vocabulary,
                        float* out, std::int64_t rows, std::int64_t width) {
  const std::int64_t octets = octets_of(width);
  const std::int64_t item = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const std::int64_t row = item / octets, octet = item % octets;
  if (row >= rows) return;
  const std::int64_t id = ids[row];
  if (id < 0 || id >= vocabulary) __trap();
  const std::int64_t left = width - octet * kOctet;
  const Octet value = load(table + id * width + octet * kOctet, left);
  store(out + row * width + octet * kOctet, dropout.of(value, row, octet), left);
}

}  // namespace

void embedding(cudaStream_t stream, const Embedding& op) {
  const std::int64_t rows = op.ids.elements(), width = op.table.extent(1);
  if (rows * width == 0) return;
  visit_storage(op.table.dtype(), [&]<typename T>(std::type_identity<T>) {
    look_up<T><<<blocks_for(rows * octets_of(width)), kThreads, 0, stream>>>(
        RowDropout(op.dropout, op.sequences, width), elements<std::int32_t>(op.ids), elements<T>(op.table),
        op.table.extent(0), elements<float>(op.out), rows, width);
  });
  check_launch("embedding");
}

}  // namespace spillway::kernels::cuda
