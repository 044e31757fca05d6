// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <initializer_list>

#include "core/cuda/check.hpp"
#include "kernels/cuda/cached_keys.cuh"

namespace spillway::kernels::cuda {

// Attention of single queries at the speed of memory: every lane reads 16 bytes of a key and of a value at a time, as many lanes as a
// head has 16 bytes share a key, and the queries of one block that have the same keys (the beams of an item) read them once.

inline constexpr int kWideThreads = 128;
inline constexpr int kWideWarps = kWideThreads / 32;
inline constexpr std::int32_t kWideReaches = 2048;  // biases in shared memory, at most

template <typename T>
inline constexpr int kWideElements = 16 / static_cast<int>(sizeof(T));

__device__ inline void widen_16(const uint4& bits, float (&values)[4], float /*of*/) {
  values[0] = __uint_as_float(bits.x);
  values[1] = __uint_as_float(bits.y);
  values[2] = __uint_as_float(bits.z);
  values[3] = __uint_as_float(bits.w);
}
__device__ inline void widen_16(const uint4& bits, float (&values)[8], __nv_bfloat16 /*of*/) {
  const std::uint32_t pairs[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    values[2 * i] = __uint_as_float(pairs[i] << 16);
    values[2 * i + 1] = __uint_as_float(pairs[i] & 0xFFFF0000U);
  }
}

__device__ inline void widen_16(const uint4& bits, float (&values)[8], __half /*of*/) {
  const std::uint32_t pairs[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 both = __half22float2(*reinterpret_cast<const __half2*>(&pairs[i]));
    values[2 * i] = both.x;
    values[2 * i + 1] = both.y;
  }
}

/// exp(x - peak), 0 where nothing has been seen yet.
__device__ inline float power_of(float x, float peak) { return peak == -INFINITY ? 0.0F : expf(x - peak); }

/// What a group of lanes, a warp or a block knows of a query's softmax: largest score, sum of powers, and sum of values so weighted.
template <int kElements>
struct Partial {
  float peak = -INFINITY, total = 0.0F, sums[kElements] = {};

  __device__ void combine_over_lanes(int step) {
    const float other_peak = __shfl_xor_sync(0xFFFFFFFFU, peak, step);
    const float other_total = __shfl_xor_sync(0xFFFFFFFFU, total, step);
    const float largest = fmaxf(peak, other_peak);
    const float mine = power_of(peak, largest), its = power_of(other_peak, largest);
    peak = largest;
    total = total * mine + other_total * its;
#pragma unroll
    for (int e = 0; e < kElements; ++e) {
      const float other = __shfl_xor_sync(0xFFFFFFFFU, sums[e], step);
      sums[e] = sums[e] * mine + other * its;
    }
  }
};

/// One thread block for kQueries rows of one head, kLanes lanes for a key: head_size = kLanes · 16 bytes.
template <int kQueries, int kLanes, typename T, typename Keys>
__global__ void __launch_bounds__(kWideThreads) attend_wide(const Queries<T> queries, const Keys keys) {
  constexpr int kElements = kWideElements<T>, kSize = kLanes * kElements;
  constexpr int kGroups = kWideWarps * (32 / kLanes);  // keys that a block looks at together
  constexpr int kTogether = kQueries == 1 ? 4 : 2;     // keys that a group of lanes has on their way
  extern __shared__ float biases[];
  __shared__ float peaks[kWideWarps][kQueries], totals[kWideWarps][kQueries], sums[kWideWarps][kQueries][kSize];
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const int part = lane % kLanes, group = warp * (32 / kLanes) + lane / kLanes;
  const std::int64_t head = blockIdx.y, begin = static_cast<std::int64_t>(blockIdx.x) * kQueries;
  const std::int64_t end = min(queries.rows, begin + kQueries);
  for (std::int64_t row = begin; row < end; ++row) keys.append(row, head, kSize, thread, kWideThreads);

  for (std::int64_t row = begin; row < end;) {
    int here = 1;  // queries with the keys of `row`
    while (row + here < end && keys.same(row, row + here)) ++here;
    const auto its = keys.of(row);
    const std::int64_t count = its.count();
    float query[kQueries][kElements];
    Partial<kElements> partial[kQueries];
#pragma unroll
    for (int i = 0; i < kQueries; ++i) {
      const T* const from = queries.q + (row + min(i, here - 1)) * queries.q_stride + head * kSize + part * kElements;
      widen_16(*reinterpret_cast<const uint4*>(from), query[i], T{});
    }
    const std::int64_t column = head * kSize + part * kElements;
    std::int64_t sources[kTogether];
#pragma unroll
    for (int u = 0; u < kTogether; ++u) {
      const std::int64_t key = group + u * kGroups;
      sources[u] = key < count ? its.source(key) : 0;
    }
    for (std::int64_t base = 0; base < count; base += kTogether * kGroups) {
      uint4 k_bits[kTogether], v_bits[kTogether];
#pragma unroll
      for (int u = 0; u < kTogether; ++u) {
        const std::int64_t key = base + group + u * kGroups;
        k_bits[u] = v_bits[u] = make_uint4(0, 0, 0, 0);
        if (key >= count) continue;
        const auto source = static_cast<std::int32_t>(sources[u]), near = static_cast<std::int32_t>(key);
        k_bits[u] = *reinterpret_cast<const uint4*>(its.k_now(keys.k, source, near) + column);
        v_bits[u] = *reinterpret_cast<const uint4*>(its.v_now(keys.v, source, near) + column);
      }
#pragma unroll
      for (int u = 0; u < kTogether; ++u) {  // where the next ones lie is known when it is their turn
        const std::int64_t key = base + group + (kTogether + u) * kGroups;
        sources[u] = key < count ? its.source(key) : 0;
      }
      if (keys.reaches > 0 && row == begin && base == 0) {  // while the first keys are on their way
        for (int reach = thread; reach < keys.reaches; reach += kWideThreads) biases[reach] = keys.bias(head, reach);
        __syncthreads();
      }
      float scores[kQueries][kTogether];
#pragma unroll
      for (int u = 0; u < kTogether; ++u) {
        const std::int64_t key = base + group + u * kGroups;
        float values[kElements];
        widen_16(k_bits[u], values, T{});
        const float bias = keys.reaches > 0 && key < count
                               ? biases[min(count - 1 - key, static_cast<std::int64_t>(keys.reaches) - 1)]
                               : 0.0F;
#pragma unroll
        for (int i = 0; i < kQueries; ++i) {
          float dot = 0.0F;
#pragma unroll
          for (int e = 0; e < kElements; ++e) dot = __fmaf_rn(query[i][e], values[e], dot);
#pragma unroll
          for (int step = 1; step < kLanes; step *= 2) dot += __shfl_xor_sync(0xFFFFFFFFU, dot, step);
          scores[i][u] = key < count ? dot + bias : -INFINITY;
        }
      }
      float shrink[kQueries];
#pragma unroll
      for (int i = 0; i < kQueries; ++i) {
        float largest = partial[i].peak;
#pragma unroll
        for (int u = 0; u < kTogether; ++u) largest = fmaxf(largest, scores[i][u]);
        shrink[i] = power_of(partial[i].peak, largest);
        partial[i].peak = largest;
        partial[i].total *= shrink[i];
#pragma unroll
        for (int u = 0; u < kTogether; ++u) {
          scores[i][u] = power_of(scores[i][u], largest);
          partial[i].total += scores[i][u];
        }
#pragma unroll
        for (int e = 0; e < kElements; ++e) partial[i].sums[e] *= shrink[i];
      }
#pragma unroll
      for (int u = 0; u < kTogether; ++u) {
        float values[kElements];
        widen_16(v_bits[u], values, T{});
#pragma unroll
        for (int i = 0; i < kQueries; ++i) {
#pragma unroll
          for (int e = 0; e < kElements; ++e)
            partial[i].sums[e] = __fmaf_rn(scores[i][u], values[e], partial[i].sums[e]);
        }
      }
    }
#pragma unroll
    for (int i = 0; i < kQueries; ++i) {
#pragma unroll
      for (int step = kLanes; step < 32; step *= 2) partial[i].combine_over_lanes(step);
      if (lane >= kLanes) continue;
      peaks[warp][i] = partial[i].peak;
      totals[warp][i] = partial[i].total;
#pragma unroll
      for (int e = 0; e < kElements; ++e) sums[warp][i][part * kElements + e] = partial[i].sums[e];
    }
    __syncthreads();
    for (int c = thread; c < here * kSize; c += kWideThreads) {
      const int i = c / kSize, column = c % kSize;
      float largest = peaks[0][i];
#pragma unroll
      for (int w = 1; w < kWideWarps; ++w) largest = fmaxf(largest, peaks[w][i]);
      float total = 0.0F, sum = 0.0F;
#pragma unroll
      for (int w = 0; w < kWideWarps; ++w) {
        const float weight = power_of(peaks[w][i], largest);
        total += totals[w][i] * weight;
        sum += sums[w][i][column] * weight;
      }
      queries.out[((row + i) * queries.heads + head) * kSize + column] = narrow<T>(sum / total);
    }
    __syncthreads();  // the next rows of this block write there
    row += here;
  }
}

/// Whether the kernel above can read these addresses and strides (in elements), all of them.
template <typename T>
[[nodiscard]] bool reads_16_bytes(std::initializer_list<const T*> starts, std::initializer_list<std::int64_t> strides) {
  bool all = true;
  for (const T* start : starts) all = all && reinterpret_cast<std::uintptr_t>(start) % 16 == 0;
  for (const std::int64_t stride : strides) all = all && stride % kWideElements<T> == 0;
  return all;
}

/// Launches it if there is one for this head size. \returns whether there is
template <int kQueries, typename T, typename Keys>
[[nodiscard]] bool launch_wide(cudaStream_t stream, const Queries<T>& queries, const Keys& keys, const char* op) {
  const dim3 blocks(static_cast<unsigned>((queries.rows + kQueries - 1) / kQueries),
                    static_cast<unsigned>(queries.heads));
  const std::size_t bytes = static_cast<std::size_t>(keys.reaches) * sizeof(float);
  constexpr int kElements = kWideElements<T>;
  switch (queries.head_size) {
    case 8 * kElements: attend_wide<kQueries, 8><<<blocks, kWideThreads, bytes, stream>>>(queries, keys); break;
    case 16 * kElements: attend_wide<kQueries, 16><<<blocks, kWideThreads, bytes, stream>>>(queries, keys); break;
    case 32 * kElements: attend_wide<kQueries, 32><<<blocks, kWideThreads, bytes, stream>>>(queries, keys); break;
    default: return false;
  }
  spillway::cuda::check(cudaGetLastError(), op);
  return true;
}

}  // namespace spillway::kernels::cuda
