// SPDX-License-Identifier: Apache-2.0
#include <bit>

#include <cub/device/device_radix_sort.cuh>

#include "core/cuda/check.hpp"
#include "kernels/cuda/dropout.cuh"
#include "kernels/cuda/embedding.hpp"
#include "kernels/cuda/launch.hpp"
#include "kernels/cuda/workspace.hpp"

namespace spillway::kernels::cuda {
namespace {

constexpr int kRunThreads = 64;
constexpr int kAhead = 8;  // rows whose values are on their way at a time

/// What is sorted: ids, and with each the row that it stood in.
__global__ void number_rows(const std::int32_t* ids, std::uint32_t* keys, std::int32_t* rows, std::int64_t count,
                            std::int64_t vocabulary) {
  const std::int64_t row = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (row >= count) return;
  const std::int64_t id = ids[row];
  if (id < 0 || id >= vocabulary) __trap();
  keys[row] = static_cast<std::uint32_t>(id);
  rows[row] = static_cast<std::int32_t>(row);
}

/// The first block of each run of equal ids adds all of its rows, in their order, to the id's row of the table; a thread for each
/// octet of columns.
__global__ void add_runs(RowDropout dropout, const std::uint32_t* ids, const std::int32_t* rows, std::int64_t count,
                         const float* d_out, float* d_table, std::int64_t width) {
  const std::int64_t first = blockIdx.x;
  const std::uint32_t id = ids[first];
  if (first > 0 && ids[first - 1] == id) return;
  const std::int64_t octet = std::int64_t{blockIdx.y} * kRunThreads + threadIdx.x;
  const std::int64_t left = width - octet * kOctet;
  if (left <= 0) return;
  float* to = d_table + id * width + octet * kOctet;
  Octet total = load(to, left);
  for (std::int64_t next = first; next < count && ids[next] == id; next += kAhead) {
    Octet values[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (next + i >= count || ids[next + i] != id) continue;
      const std::int64_t row = rows[next + i];
      values[i] = dropout.of(load(d_out + row * width + octet * kOctet, left), row, octet);
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i)
      if (next + i < count && ids[next + i] == id) total = total + values[i];
  }
  store(to, total, left);
}

}  // namespace

void embedding_gradient(cudaStream_t stream, std::span<std::byte> workspace, const EmbeddingGradient& op) {
  const std::int64_t count = op.ids.elements(), vocabulary = op.d_table.extent(0), width = op.d_table.extent(1);
  if (count * width == 0) return;
  require_workspace("embedding_gradient", embedding_workspace_bytes(count), workspace.size());
  const auto part = static_cast<std::size_t>(sort_part_bytes(count));
  const auto part_of = [&](std::size_t index) { return workspace.data() + index * part; };
  cub::DoubleBuffer<std::uint32_t> keys(reinterpret_cast<std::uint32_t*>(part_of(0)),
                                        reinterpret_cast<std::uint32_t*>(part_of(1)));
  cub::DoubleBuffer<std::int32_t> rows(reinterpret_cast<std::int32_t*>(part_of(2)),
                                       reinterpret_cast<std::int32_t*>(part_of(3)));
  const std::size_t scratch_bytes = workspace.size() - 4 * part;

  number_rows<<<blocks_for(count), kThreads, 0, stream>>>(elements<std::int32_t>(op.ids), keys.Current(),
                                                          rows.Current(), count, vocabulary);
  check_launch("embedding_gradient");
  // A radix sort keeps rows of the same id in their order.
  const int bits = std::bit_width(static_cast<std::uint32_t>(vocabulary - 1));
  const auto sort = [&](void* scratch, std::size_t& bytes) {
    spillway::cuda::check(cub::DeviceRadixSort::SortPairs(scratch, bytes, keys, rows, static_cast<int>(count), 0,
                                                          std::max(bits, 1), stream),
                          "cub::DeviceRadixSort::SortPairs");
  };
  std::size_t wanted = 0;
  sort(nullptr, wanted);
  require_workspace("embedding_gradient: sorting", wanted, scratch_bytes);
  sort(part_of(4), wanted);
  const dim3 grid(static_cast<unsigned>(count),
                  static_cast<unsigned>((octets_of(width) + kRunThreads - 1) / kRunThreads));
  add_runs<<<grid, kRunThreads, 0, stream>>>(RowDropout(op.dropout, op.sequences, width), keys.Current(),
                                             rows.Current(), count, elements<float>(op.d_out),
                                             elements<float>(op.d_table), width);
  check_launch("embedding_gradient");
}

}  // namespace spillway::kernels::cuda
