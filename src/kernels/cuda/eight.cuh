// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "kernels/exact_master.hpp"
#include "kernels/float16.hpp"
#include "kernels/optimizer_state.hpp"

namespace spillway::kernels::cuda {

/// Consecutive elements of one thread: 16 bytes of bf16, two times 16 of f32. A warp has as many as a block of an int8 state.
inline constexpr int kEach = 8;
static_assert(32 * kEach == kStateBlock);
inline constexpr int kEightWarps = 8;  // of one thread block

/// Thread blocks for `elements` from `offset` elements after the start of the first warp's.
inline unsigned eight_blocks(std::int64_t offset, std::int64_t elements) {
  constexpr std::int64_t kOfBlock = kEightWarps * kStateBlock;
  return static_cast<unsigned>((offset + elements + kOfBlock - 1) / kOfBlock);
}

/// The eight elements from `begin` of a tensor, of which those from `from` to `to` exist.
struct Eight {
  std::int64_t begin;
  int from, to;

  /// This thread's. The first warp's elements begin `offset` before the tensor's.
  static __device__ Eight mine(std::int64_t offset, std::int64_t elements) {
    return of_thread(std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x, offset, elements);
  }
  static __device__ Eight of_thread(std::int64_t thread, std::int64_t offset, std::int64_t elements) {
    const std::int64_t begin = thread * kEach - offset, end = elements - begin;
    return {begin,
            begin >= 0        ? 0
            : begin <= -kEach ? kEach
                              : static_cast<int>(-begin),
            end >= kEach ? kEach
            : end <= 0   ? 0
                         : static_cast<int>(end)};
  }
  [[nodiscard]] __device__ bool whole() const { return from == 0 && to == kEach; }
  [[nodiscard]] __device__ bool has(int i) const { return i >= from && i < to; }
};

template <typename T>
using VectorOf = std::conditional_t<sizeof(T) == 1, uint2, uint4>;

template <typename T>
__device__ bool in_vectors(const T* first, const Eight& at) {
  return at.whole() && reinterpret_cast<std::uintptr_t>(first + at.begin) % sizeof(VectorOf<T>) == 0;
}

/// What does not exist is 0.
template <typename T>
__device__ void load(const T* from, const Eight& at, T (&to)[kEach]) {
  using Vector = VectorOf<T>;
  if (in_vectors(from, at)) {
    Vector parts[sizeof to / sizeof(Vector)];
    for (std::size_t i = 0; i < sizeof to / sizeof(Vector); ++i)
      parts[i] = reinterpret_cast<const Vector*>(from + at.begin)[i];
    memcpy(to, parts, sizeof to);
    return;
  }
  for (int i = 0; i < kEach; ++i) to[i] = at.has(i) ? from[at.begin + i] : T{};
}

template <typename T>
__device__ void store(T* to, const Eight& at, const T (&from)[kEach]) {
  using Vector = VectorOf<T>;
  if (in_vectors(to, at)) {
    Vector parts[sizeof from / sizeof(Vector)];
    memcpy(parts, from, sizeof from);
    for (std::size_t i = 0; i < sizeof from / sizeof(Vector); ++i)
      reinterpret_cast<Vector*>(to + at.begin)[i] = parts[i];
    return;
  }
  for (int i = 0; i < kEach; ++i)
    if (at.has(i)) to[at.begin + i] = from[i];
}

/// Eight elements of up to four bytes as they lie in memory: what a thread asks for before it waits for any of it.
struct RawEight {
  std::uint32_t words[kEach];
};

template <typename T>
__device__ RawEight fetch(const T* from, const Eight& at) {
  T elements[kEach];
  load(from, at, elements);
  RawEight raw{};
  memcpy(raw.words, elements, sizeof elements);
  return raw;
}

template <typename T>
__device__ void unpack(const RawEight& raw, T (&to)[kEach]) {
  memcpy(to, raw.words, sizeof to);
}

/// f32, bf16 or f16 numbers that are read.
struct Numbers {
  const void* data;
  DType dtype;

  static Numbers of(const ConstTensorView& view) { return {view.data(), view.dtype()}; }
  [[nodiscard]] __device__ float at(std::int64_t i) const {
    if (dtype == DType::f32) return static_cast<const float*>(data)[i];
    return widened(static_cast<const std::uint16_t*>(data)[i]);
  }
  [[nodiscard]] __device__ RawEight fetch(const Eight& at) const {
    return dtype == DType::f32 ? cuda::fetch(static_cast<const float*>(data), at)
                               : cuda::fetch(static_cast<const std::uint16_t*>(data), at);
  }
  __device__ void widen(const RawEight& raw, float (&values)[kEach]) const {
    if (dtype == DType::f32) return unpack(raw, values);
    std::uint16_t bits[kEach];
    unpack(raw, bits);
    for (int i = 0; i < kEach; ++i) values[i] = widened(bits[i]);
  }
  __device__ void read(const Eight& at, float (&values)[kEach]) const { widen(fetch(at), values); }

 private:
  [[nodiscard]] __device__ float widened(std::uint16_t bits) const {
    return dtype == DType::f16 ? widened_f16(bits) : join({bits, 0});
  }
};

struct RawParameters {
  RawEight exact;  // in fp32, or the weights
  RawEight masters;
};

/// A ParameterView, or a weight of 16 bits without a master.
struct Parameters {
  void* weight;
  void* master;
  DType dtype;  // of the weight

  static Parameters of(const ParameterView& view) {
    return {view.weight.data(), view.master.data(), view.weight.dtype()};
  }
  /// Where the parameters are in fp32; null: nowhere.
  [[nodiscard]] __device__ float* exact() const {
    return static_cast<float*>(dtype == DType::f32 ? weight : dtype == DType::f16 ? master : nullptr);
  }
  [[nodiscard]] __device__ float at(std::int64_t i) const {
    if (const float* values = exact(); values != nullptr) return values[i];
    const std::uint16_t bits = static_cast<const std::uint16_t*>(weight)[i];
    if (dtype == DType::f16) return widened_f16(bits);
    return join({bits, master != nullptr ? static_cast<const std::int16_t*>(master)[i] : std::int16_t{0}});
  }
  [[nodiscard]] __device__ RawParameters fetch(const Eight& at) const {
    if (const float* from = exact(); from != nullptr) return {cuda::fetch(from, at), {}};
    const RawEight weights = cuda::fetch(static_cast<const std::uint16_t*>(weight), at);
    if (dtype == DType::f16 || master == nullptr) return {weights, {}};
    return {weights, cuda::fetch(static_cast<const std::int16_t*>(master), at)};
  }
  __device__ void widen(const RawParameters& raw, float (&values)[kEach]) const {
    if (exact() != nullptr) return unpack(raw.exact, values);
    std::uint16_t weights[kEach];
    std::int16_t masters[kEach];
    unpack(raw.exact, weights);
    unpack(raw.masters, masters);
    for (int i = 0; i < kEach; ++i)
      values[i] = dtype == DType::f16 ? widened_f16(weights[i]) : join({weights[i], masters[i]});
  }
  __device__ void read(const Eight& at, float (&values)[kEach]) const { widen(fetch(at), values); }
  __device__ void write(const Eight& at, const float (&values)[kEach]) const {
    if (float* to = exact(); to != nullptr) store(to, at, values);
    if (dtype == DType::f32) return;
    std::uint16_t weights[kEach];
    if (dtype == DType::f16) {
      for (int i = 0; i < kEach; ++i) weights[i] = rounded_f16(values[i]);
      return store(static_cast<std::uint16_t*>(weight), at, weights);
    }
    std::int16_t masters[kEach];
    for (int i = 0; i < kEach; ++i) {
      const SplitFloat parts = split(values[i]);
      weights[i] = parts.weight;
      masters[i] = parts.master;
    }
    store(static_cast<std::uint16_t*>(weight), at, weights);
    if (master != nullptr) store(static_cast<std::int16_t*>(master), at, masters);
  }
};

}  // namespace spillway::kernels::cuda
