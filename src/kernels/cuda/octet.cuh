// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/cuda/storage.cuh"

namespace spillway::kernels::cuda {

/// Columns that a thread works on at a time: one draw of a row-wise dropout has as many lanes.
inline constexpr int kOctet = 8;

/// Octets of a row, the last perhaps not full.
[[nodiscard]] __host__ __device__ inline std::int64_t octets_of(std::int64_t width) {
  return (width + kOctet - 1) / kOctet;
}

/// Eight neighbours of one row, in fp32.
struct Octet {
  float values[kOctet];
};

template <typename T>
struct alignas(16) Pack {
  static constexpr int kSize = 16 / sizeof(T);
  T values[kSize];
};

__device__ inline bool can_be_packed(const void* address, std::int64_t count) {
  return count >= kOctet && reinterpret_cast<std::uintptr_t>(address) % 16 == 0;
}

/// \param count  elements that are left in the row; the octet's others become 0
template <typename T>
__device__ inline Octet load(const T* from, std::int64_t count) {
  Octet octet;
  if (can_be_packed(from, count)) {
    const auto* packs = reinterpret_cast<const Pack<T>*>(from);
#pragma unroll
    for (int p = 0; p < kOctet / Pack<T>::kSize; ++p) {
      const Pack<T> pack = packs[p];
#pragma unroll
      for (int i = 0; i < Pack<T>::kSize; ++i) octet.values[p * Pack<T>::kSize + i] = widen(pack.values[i]);
    }
  } else {
#pragma unroll
    for (int i = 0; i < kOctet; ++i) octet.values[i] = i < count ? widen(from[i]) : 0.0F;
  }
  return octet;
}

/// Writes at most `count` of the eight.
template <typename T>
__device__ inline void store(T* to, const Octet& octet, std::int64_t count) {
  if (can_be_packed(to, count)) {
    auto* packs = reinterpret_cast<Pack<T>*>(to);
#pragma unroll
    for (int p = 0; p < kOctet / Pack<T>::kSize; ++p) {
      Pack<T> pack;
#pragma unroll
      for (int i = 0; i < Pack<T>::kSize; ++i) pack.values[i] = narrow<T>(octet.values[p * Pack<T>::kSize + i]);
      packs[p] = pack;
    }
  } else {
#pragma unroll
    for (int i = 0; i < kOctet; ++i)
      if (i < count) to[i] = narrow<T>(octet.values[i]);
  }
}

/// Applies f(value, other) to the eight pairs.
template <typename Function>
__device__ inline Octet combine(const Octet& one, const Octet& other, const Function& f) {
  Octet result;
#pragma unroll
  for (int i = 0; i < kOctet; ++i) result.values[i] = f(one.values[i], other.values[i]);
  return result;
}

/// Applies f(value) to the eight.
template <typename Function>
__device__ inline Octet apply(const Octet& octet, const Function& f) {
  Octet result;
#pragma unroll
  for (int i = 0; i < kOctet; ++i) result.values[i] = f(octet.values[i]);
  return result;
}

__device__ inline Octet operator+(const Octet& one, const Octet& other) {
  return combine(one, other, [](float a, float b) { return a + b; });
}
__device__ inline Octet operator*(const Octet& one, const Octet& other) {
  return combine(one, other, [](float a, float b) { return a * b; });
}
__device__ inline Octet operator*(const Octet& one, float factor) {
  return combine(one, one, [factor](float a, float) { return a * factor; });
}

template <typename T>
__device__ inline Octet as_stored(const Octet& octet) {
  return combine(octet, octet, [](float a, float) { return as_stored<T>(a); });
}

/// The eight added up as a tree.
__device__ inline float sum(const Octet& octet) {
  const float* v = octet.values;
  return ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
}

}  // namespace spillway::kernels::cuda
