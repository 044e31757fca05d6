// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/cuda/check.hpp"
#include "kernels/cuda/cached_attention.hpp"
#include "kernels/cuda/cached_attention_mma.cuh"
#include "kernels/cuda/cached_attention_wide.cuh"
#include "kernels/cuda/cached_keys.cuh"
#include "kernels/cuda/combine_block.cuh"
#include "kernels/relative_position.hpp"

namespace spillway::kernels::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;
constexpr int kKeys = 512;  // whose scores are in shared memory at a time
constexpr unsigned kAll = 0xFFFFFFFFU;

ReachBuckets buckets_of(const RelativeBias& bias, std::int64_t reaches) {
  ReachBuckets buckets;
  if (!bias.table) return buckets;
  const RelativeBuckets settings{
      .count = bias.table.extent(0), .bidirectional = bias.bidirectional, .max_distance = bias.max_distance};
  std::int64_t last = -1;
  for (std::int64_t reach = 0; reach < reaches; ++reach) {
    const std::int64_t bucket = relative_bucket(-reach, settings);
    // A bucket without any reach starts where the next begins.
    for (; last < bucket; ++last) buckets.starts[static_cast<std::size_t>(last + 1)] = static_cast<std::int32_t>(reach);
  }
  buckets.count = static_cast<std::int32_t>(last + 1);
  return buckets;
}

/// What every head size, address and stride has: one thread block for one query of one head. Keys come in chunks; what was summed before shrinks when a larger score comes.
template <typename T, typename Keys>
__global__ void __launch_bounds__(kThreads) attend(const Queries<T> queries, const Keys keys) {
  extern __shared__ float memory[];  // the query, then a partial output for each warp
  __shared__ float scores[kKeys];
  __shared__ std::int64_t places[kKeys];
  const auto head_size = static_cast<int>(queries.head_size);
  float* const query = memory;
  float* const sums = memory + head_size;
  const std::int64_t row = blockIdx.x / queries.heads, head = blockIdx.x % queries.heads;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  for (int c = thread; c < head_size; c += kThreads)
    query[c] = widen(queries.q[row * queries.q_stride + head * head_size + c]);
  for (int c = thread; c < kWarps * head_size; c += kThreads) sums[c] = 0.0F;
  keys.append(row, head, head_size, thread, kThreads);
  const auto larger = [](float a, float b) { return fmaxf(a, b); };
  const T* const k = keys.k + head * head_size;
  const T* const v = keys.v + head * head_size;
  const auto its = keys.of(row);
  const std::int64_t count = its.count();
  float peak = -INFINITY, total = 0.0F;
  for (std::int64_t chunk = 0; chunk < count; chunk += kKeys) {
    const int here = static_cast<int>(min(std::int64_t{kKeys}, count - chunk));
    __syncthreads();  // the last chunk's scores and places have been read; the query is there
    for (int j = thread; j < here; j += kThreads) places[j] = its.k_place(its.source(chunk + j), chunk + j);
    __syncthreads();
    for (int j = warp; j < here; j += kWarps) {
      const T* const key = k + places[j];
      float dot = 0.0F;
      for (int c = lane; c < head_size; c += 32) dot = __fmaf_rn(query[c], widen(key[c]), dot);
      for (int step = 16; step > 0; step /= 2) dot += __shfl_xor_sync(kAll, dot, step);
      if (lane == 0) scores[j] = dot;
    }
    __syncthreads();
    float largest = peak;
    for (int j = thread; j < here; j += kThreads) {
      scores[j] += keys.bias(head, count - 1 - chunk - j);
      largest = fmaxf(largest, scores[j]);
      places[j] = its.v_place(its.source(chunk + j), chunk + j);
    }
    largest = combine_block<kThreads>(largest, larger);
    const float shrink = chunk == 0 ? 0.0F : expf(peak - largest);
    peak = largest;
    float mine = 0.0F;
    for (int j = thread; j < here; j += kThreads) {
      scores[j] = expf(scores[j] - peak);
      mine += scores[j];
    }
    total = total * shrink + block_sum<kThreads>(mine);
    for (int c = lane; c < head_size; c += 32) {
      float sum = sums[warp * head_size + c] * shrink;
#pragma unroll 4
      for (int j = warp; j < here; j += kWarps) sum = __fmaf_rn(scores[j], widen(v[places[j] + c]), sum);
      sums[warp * head_size + c] = sum;
    }
  }
  __syncthreads();
  const float inverse = 1.0F / total;
  for (int c = thread; c < head_size; c += kThreads) {
    float sum = sums[c];
    for (int i = 1; i < kWarps; ++i) sum += sums[i * head_size + c];
    queries.out[(row * queries.heads + head) * head_size + c] = narrow<T>(sum * inverse);
  }
}

template <typename T, typename Keys>
void launch(cudaStream_t stream, const Queries<T>& queries, const Keys& keys, const char* op) {
  const auto bytes = static_cast<std::size_t>((1 + kWarps) * queries.head_size) * sizeof(float);
  attend<<<static_cast<unsigned>(queries.rows * queries.heads), kThreads, bytes, stream>>>(queries, keys);
  spillway::cuda::check(cudaGetLastError(), op);
}

}  // namespace

void cached_self_attention(cudaStream_t stream, const CachedSelfAttention& op) {
  const std::int64_t width = op.heads * op.head_size;
  if (op.rows * width == 0) return;
  const std::int64_t reaches = op.bias.table ? std::min(op.capacity - 1, op.bias.max_distance) + 1 : 0;
  visit_storage(op.q.dtype(), [&]<typename T>(std::type_identity<T>) {
    const Queries<T> queries{.q = elements<T>(op.q),
                             .out = reinterpret_cast<T*>(op.out.data()),
                             .rows = op.rows,
                             .q_stride = op.stride,
                             .heads = op.heads,
                             .head_size = op.head_size};
    const SelfKeys<T> keys{.k = reinterpret_cast<T*>(op.cache_k.data()),
                           .v = reinterpret_cast<T*>(op.cache_v.data()),
                           .new_k = elements<T>(op.k),
                           .new_v = elements<T>(op.v),
                           .table = elements<T>(op.bias.table),
                           .ancestry = elements<std::int32_t>(op.ancestry),
                           .position = elements<std::int32_t>(op.position),
                           .stride = op.stride,
                           .capacity = op.capacity,
                           .width = width,
                           .heads = op.heads,
                           .reaches = static_cast<std::int32_t>(reaches),
                           .buckets = buckets_of(op.bias, reaches)};
    constexpr const char* kName = "cached_self_attention";
    const bool wide =
        reaches <= kWideReaches &&
        reads_16_bytes<T>({queries.q, queries.out, keys.k, keys.v, keys.new_k, keys.new_v}, {op.stride, width});
    if (!wide || !(launch_mma(stream, queries, keys, 1, kName) || launch_wide<1>(stream, queries, keys, kName)))
      launch(stream, queries, keys, kName);
  });
}

void cached_cross_attention(cudaStream_t stream, const CachedCrossAttention& op) {
  const std::int64_t width = op.heads * op.head_size;
  if (op.rows * width == 0) return;
  visit_storage(op.q.dtype(), [&]<typename T>(std::type_identity<T>) {
    const Queries<T> queries{.q = elements<T>(op.q),
                             .out = reinterpret_cast<T*>(op.out.data()),
                             .rows = op.rows,
                             .q_stride = width,
                             .heads = op.heads,
                             .head_size = op.head_size};
    const CrossKeys<T> keys{.k = elements<T>(op.k),
                            .v = elements<T>(op.v),
                            .offsets = elements<std::int32_t>(op.keys.offsets),
                            .row_sequence = elements<std::int32_t>(op.row_sequence),
                            .k_stride = op.k_stride,
                            .v_stride = op.v_stride};
    constexpr const char* kName = "cached_cross_attention";
    // Beams of an item follow one another; as many as there are of them share what is read.
    const std::int64_t beams = op.rows / std::max<std::int64_t>(op.keys.count, 1);
    const auto together = static_cast<int>(std::clamp<std::int64_t>(beams, 1, kCachedQueries));
    const bool wide =
        reads_16_bytes<T>({queries.q, queries.out, keys.k, keys.v}, {width, op.k_stride, op.v_stride}) &&
        (launch_mma(stream, queries, keys, together, kName) ||
         (beams < 2 ? launch_wide<1>(stream, queries, keys, kName) : launch_wide<4>(stream, queries, keys, kName)));
    if (!wide) launch(stream, queries, keys, kName);
  });
}

}  // namespace spillway::kernels::cuda
