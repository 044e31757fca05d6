// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/cuda/attention_mma.cuh"

namespace spillway::kernels::cuda {

// Between tensors and tiles in shared memory. Copies to shared memory are asynchronous where the GPU has that: the threads that began
// them have to wait for them, and then to meet.

/// Copies 16 bytes; zeros if not `inside`, and then `from` may be anywhere.
__device__ inline void begin_copy(void* shared, const void* from, bool inside) {
#if __CUDA_ARCH__ >= 800
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(inside ? 16 : 0)
               : "memory");
#else
  *static_cast<uint4*>(shared) = inside ? *static_cast<const uint4*>(from) : make_uint4(0, 0, 0, 0);
#endif
}

/// Ends a group of copies: those begun since the last group.
__device__ inline void end_copy_group() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

/// Waits for the calling thread's groups but for the last `Open`.
template <int Open>
__device__ void wait_for_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(Open) : "memory");
#endif
}

/// Begins to copy rows into a tile, zeros around them. All threads of the CTA take part.
template <int Threads, typename T, int D, int Rows>
__device__ void load_tile(const TileRows<const T>& rows, const AttentionArguments<T>& op,
                          OperandTile<T, D, Rows>& tile) {
  if (op.in_pieces) {
    constexpr int kPieces = D * sizeof(T) / 16;
    constexpr int kStep = Threads / kPieces;
    static_assert(Threads % kPieces == 0 && Rows % kStep == 0);
    const int column = static_cast<int>(threadIdx.x % kPieces) * (D / kPieces);
    const int first = static_cast<int>(threadIdx.x / kPieces);
    const T* from = rows.first + first * rows.stride + column;
    const std::int64_t step = kStep * rows.stride;
    const int valid = column < op.head_size ? rows.valid : 0;
#pragma unroll
    for (int i = 0; i < Rows / kStep; ++i) {
      begin_copy(&tile.rows[first + i * kStep][column], from, first + i * kStep < valid);
      from += step;
    }
  } else {
#pragma unroll 1
    for (int t = threadIdx.x; t < Rows * D; t += Threads) {
      const int row = t / D;
      const int column = t % D;
      const bool inside = row < rows.valid && column < op.head_size;
      tile.rows[row][column] = inside ? rows.first[row * rows.stride + column] : narrow<T>(0.0F);
    }
  }
}

/// Writes a warp's 16 rows of sums from `row` on, rows g times `low` and rows g + 8 times `high`, to the head's columns from `column`
/// on. They go through the same rows and columns of `tile`, which nobody else may be using.
template <typename T, int D, int Rows, int Count>
__device__ void store_sums(const float (&sums)[Count][4], float low, float high, OperandTile<T, D, Rows>& tile, int row,
                           int column, const TileRows<T>& rows, const AttentionArguments<T>& op) {
  const int lane = static_cast<int>(threadIdx.x % 32);
#pragma unroll
  for (int n = 0; n < Count; ++n) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float factor = half == 0 ? low : high;
      *reinterpret_cast<std::uint32_t*>(&tile.rows[row + lane / 4 + 8 * half][column + 8 * n + lane % 4 * 2]) =
          rounded_pair<T>(sums[n][2 * half] * factor, sums[n][2 * half + 1] * factor);
    }
  }
  __syncwarp();
  constexpr int kColumns = 8 * Count;
  if (op.in_pieces) {
#pragma unroll
    for (int t = 0; t < 16 * Count / 32; ++t) {
      const int i = row + (lane + 32 * t) / Count;
      const int at = column + (lane + 32 * t) % Count * 8;
      if (i < rows.valid && at < op.head_size)
        *reinterpret_cast<uint4*>(rows.first + i * rows.stride + at) =
            *reinterpret_cast<const uint4*>(&tile.rows[i][at]);
    }
  } else {
#pragma unroll 1
    for (int t = lane; t < 16 * kColumns; t += 32) {
      const int i = row + t / kColumns;
      const int at = column + t % kColumns;
      if (i < rows.valid && at < op.head_size) rows.first[i * rows.stride + at] = tile.rows[i][at];
    }
  }
}

}  // namespace spillway::kernels::cuda
