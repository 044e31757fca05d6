// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include <cuda_pipeline_primitives.h>

#include "kernels/cuda/storage.cuh"

namespace spillway::kernels::cuda {

inline constexpr int kQuad = 4;            // logits that a thread reads at a time
inline constexpr int kLogitThreads = 512;  // of a block that works on one row
inline constexpr int kHeldQuads = 9;       // that a thread keeps in registers
inline constexpr int kSharedQuads = 7;     // and in shared memory, at most

/// Quads of a row that each thread keeps in shared memory.
[[nodiscard]] inline int shared_quads_of(std::int64_t vocabulary) {
  const std::int64_t of_thread = (vocabulary + kQuad * kLogitThreads - 1) / (kQuad * kLogitThreads);
  return static_cast<int>(std::clamp<std::int64_t>(of_thread - kHeldQuads, 0, kSharedQuads));
}

template <typename T>
struct alignas(kQuad * sizeof(T)) Quad {
  T values[kQuad];
};

/// Whether the quads of all rows are full and lie on their boundaries.
template <typename G>
[[nodiscard]] bool quads_are_whole(std::int64_t vocabulary, const float* logits, const G* gradient) {
  return vocabulary % kQuad == 0 && reinterpret_cast<std::uintptr_t>(logits) % sizeof(Quad<float>) == 0 &&
         reinterpret_cast<std::uintptr_t>(gradient) % sizeof(Quad<G>) == 0;
}

/// \param left  elements from `to` to the end of the row
template <bool kWhole, typename T>
__device__ inline void store_quad(T* to, const Quad<float>& quad, int left) {
  if constexpr (kWhole) {
    Quad<T> narrowed;
#pragma unroll
    for (int i = 0; i < kQuad; ++i) narrowed.values[i] = narrow<T>(quad.values[i]);
    *reinterpret_cast<Quad<T>*>(to) = narrowed;
  } else {
#pragma unroll
    for (int i = 0; i < kQuad; ++i)
      if (i < left) to[i] = narrow<T>(quad.values[i]);
  }
}

/// A block's row of logits. A thread has quads threadIdx.x, threadIdx.x + kLogitThreads and so on; it keeps the first in registers, the
/// next in shared memory, and reads the rest, of rows of more than 32768, from memory whenever they are asked for.
template <bool kWhole>
class LogitRow {
 public:
  /// \param shared_quads  shared_quads_of(vocabulary), for which the block has dynamic shared memory
  __device__ LogitRow(const float* row, int vocabulary, int shared_quads)
      : row_(row), vocabulary_(vocabulary), shared_quads_(shared_quads) {
    for (int i = 0; i < shared_quads; ++i) {
      const int at = kHeldQuads + i;
      if (kWhole && left(at) > 0) {
        __pipeline_memcpy_async(&shared(i), row + column(at), sizeof(Quad<float>));
      } else {
        shared(i) = load(at);
      }
    }
    __pipeline_commit();
#pragma unroll
    for (int i = 0; i < kHeldQuads; ++i) held_[i] = load(i);
    __pipeline_wait_prior(0);  // a thread reads only what it copied itself
  }

  /// f(quad) of each; what is behind the row is -infinity.
  template <typename Function>
  __device__ void read(const Function& f) const {
#pragma unroll
    for (int i = 0; i < kHeldQuads; ++i) f(held_[i]);
    for (int i = 0; i < shared_quads_; ++i) f(shared(i));
    for (int i = kHeldQuads + shared_quads_; left(i) > 0; ++i) f(load(i));
  }

  /// Keeps f(quad, left) in its stead where a quad is kept. Not called for quads behind the row.
  template <typename Function>
  __device__ void replace(const Function& f) {
#pragma unroll
    for (int i = 0; i < kHeldQuads; ++i)
      if (left(i) > 0) held_[i] = f(held_[i], left(i));
    for (int i = 0; i < shared_quads_ && left(kHeldQuads + i) > 0; ++i) shared(i) = f(shared(i), left(kHeldQuads + i));
    for (int i = kHeldQuads + shared_quads_; left(i) > 0; ++i) f(load(i), left(i));
  }

  /// f(quad, column, left) of each as `replace` left it; of those that are not kept, f(again(quad), ...).
  template <typename Function, typename Again>
  __device__ void write(const Function& f, const Again& again) const {
#pragma unroll
    for (int i = 0; i < kHeldQuads; ++i)
      if (left(i) > 0) f(held_[i], column(i), left(i));
    for (int i = 0; i < shared_quads_ && left(kHeldQuads + i) > 0; ++i)
      f(shared(i), column(kHeldQuads + i), left(kHeldQuads + i));
    for (int i = kHeldQuads + shared_quads_; left(i) > 0; ++i) f(again(load(i)), column(i), left(i));
  }

 private:
  __device__ static int column(int i) { return (i * kLogitThreads + static_cast<int>(threadIdx.x)) * kQuad; }
  [[nodiscard]] __device__ int left(int i) const { return vocabulary_ - column(i); }
  __device__ static Quad<float>& shared(int i) {
    extern __shared__ __align__(16) unsigned char memory[];
    return reinterpret_cast<Quad<float>*>(memory)[i * kLogitThreads + static_cast<int>(threadIdx.x)];
  }
  [[nodiscard]] __device__ Quad<float> load(int i) const {
    if (kWhole && left(i) > 0) return *reinterpret_cast<const Quad<float>*>(row_ + column(i));
    Quad<float> quad;
#pragma unroll
    for (int e = 0; e < kQuad; ++e) quad.values[e] = e < left(i) ? row_[column(i) + e] : -INFINITY;
    return quad;
  }

  const float* row_;
  int vocabulary_, shared_quads_;
  Quad<float> held_[kHeldQuads];
};

}  // namespace spillway::kernels::cuda
