// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cuda/octet.cuh"

namespace spillway::kernels::cuda {

/// Eight neighbours of one row as they lie in memory: what a thread holds between two looks at them. In 16 bits it takes half the
/// registers of an Octet.
template <typename T>
struct RawOctet {
  static constexpr int kPacks = kOctet / Pack<T>::kSize;
  Pack<T> packs[kPacks];
};

/// Whether rows of `width` elements that start at these addresses consist of octets that are full and lie on 16-byte boundaries, so that
/// no thread has to ask (kWhole). Null counts for nothing.
template <typename... Addresses>
[[nodiscard]] bool octets_are_whole(std::int64_t width, const Addresses*... addresses) {
  return width % kOctet == 0 && ((reinterpret_cast<std::uintptr_t>(addresses) % 16 == 0) && ...);
}

/// \param count  elements that are left in the row, below 1 if the octet lies behind it; what is not there is 0
template <bool kWhole, typename T>
__device__ inline RawOctet<T> load_raw(const T* from, int count) {
  RawOctet<T> raw{};
  if constexpr (kWhole) {
    uint4 words[RawOctet<T>::kPacks] = {};
    if (count > 0) {
#pragma unroll
      for (int p = 0; p < RawOctet<T>::kPacks; ++p) words[p] = reinterpret_cast<const uint4*>(from)[p];
    }
    memcpy(&raw, words, sizeof(raw));
  } else {
#pragma unroll
    for (int i = 0; i < kOctet; ++i)
      if (i < count) raw.packs[i / Pack<T>::kSize].values[i % Pack<T>::kSize] = from[i];
  }
  return raw;
}

template <bool kWhole, typename T>
__device__ inline void store_raw(T* to, const RawOctet<T>& raw, int count) {
  if constexpr (kWhole) {
    if (count > 0) {
#pragma unroll
      for (int p = 0; p < RawOctet<T>::kPacks; ++p) reinterpret_cast<Pack<T>*>(to)[p] = raw.packs[p];
    }
  } else {
#pragma unroll
    for (int i = 0; i < kOctet; ++i)
      if (i < count) to[i] = raw.packs[i / Pack<T>::kSize].values[i % Pack<T>::kSize];
  }
}

template <typename T>
__device__ inline Octet widen(const RawOctet<T>& raw) {
  Octet octet;
  if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    // By words, not halves: an instruction for each element. bf16 is the upper half of the float.
    std::uint32_t words[kOctet / 2];
    memcpy(words, &raw, sizeof(raw));
#pragma unroll
    for (int i = 0; i < kOctet / 2; ++i) {
      octet.values[2 * i] = __uint_as_float(words[i] << 16);
      octet.values[2 * i + 1] = __uint_as_float(words[i] & 0xFFFF0000U);
    }
  } else {
#pragma unroll
    for (int i = 0; i < kOctet; ++i) octet.values[i] = widen(raw.packs[i / Pack<T>::kSize].values[i % Pack<T>::kSize]);
  }
  return octet;
}

/// Has the compiler widen `raw` again where it is used next, instead of keeping eight floats in twice the registers.
template <typename T>
__device__ inline void keep_raw(RawOctet<T>& raw) {
  std::uint32_t words[sizeof(raw) / 4];
  memcpy(words, &raw, sizeof(raw));
#pragma unroll
  for (std::uint32_t& word : words) asm volatile("" : "+r"(word));
  memcpy(&raw, words, sizeof(raw));
}

/// Rounds each element once.
template <typename T>
__device__ inline RawOctet<T> narrow_raw(const Octet& octet) {
  RawOctet<T> raw;
  if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    // Two at a time are one instruction.
    __nv_bfloat162 pairs[kOctet / 2];
#pragma unroll
    for (int i = 0; i < kOctet / 2; ++i) pairs[i] = __floats2bfloat162_rn(octet.values[2 * i], octet.values[2 * i + 1]);
    memcpy(&raw, pairs, sizeof(raw));
  } else if constexpr (std::is_same_v<T, __half>) {
    __half2 pairs[kOctet / 2];
#pragma unroll
    for (int i = 0; i < kOctet / 2; ++i) pairs[i] = __floats2half2_rn(octet.values[2 * i], octet.values[2 * i + 1]);
    memcpy(&raw, pairs, sizeof(raw));
  } else {
#pragma unroll
    for (int i = 0; i < kOctet; ++i)
      raw.packs[i / Pack<T>::kSize].values[i % Pack<T>::kSize] = narrow<T>(octet.values[i]);
  }
  return raw;
}

}  // namespace spillway::kernels::cuda
