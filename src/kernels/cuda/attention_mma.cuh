// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include <cuda_bf16.h>

#include "kernels/cuda/attention_storage.cuh"
#include "kernels/cuda/attention_tile.cuh"

namespace spillway::kernels::cuda {

// The tensor-core form of attention: 128 threads, a warp for 16 rows of a tile of scores. In what follows lane l of a warp has g = l / 4
// and c = l % 4. A fragment of sums (16 x 8) has elements (g, 2c), (g, 2c + 1), (g + 8, 2c), (g + 8, 2c + 1); two of them side by side,
// rounded, are a left operand (16 x 16).

inline constexpr int kMmaThreads = 128;

/// A tile of a head's columns in shared memory, the columns filled up with zeros to D. Rows of 16 bytes more than they need lie in
/// different banks.
template <typename T, int D, int Rows = kTile>
struct alignas(16) OperandTile {
  T rows[Rows][D + 8];
};

struct LeftOperand {
  std::uint32_t parts[4];
};
struct RightOperands {
  std::uint32_t parts[4];  // those of columns 0 to 7, then those of 8 to 15
};

__device__ inline void load_matrices(std::uint32_t (&parts)[4], const void* row) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(parts[0]), "=r"(parts[1]), "=r"(parts[2]), "=r"(parts[3])
               : "r"(address)
               : "memory");
}
__device__ inline void load_matrices_transposed(std::uint32_t (&parts)[4], const void* row) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(parts[0]), "=r"(parts[1]), "=r"(parts[2]), "=r"(parts[3])
               : "r"(address)
               : "memory");
}

/// Rows [row, row + 16) and columns [column, column + 16) of a tile.
template <typename T, int D, int Rows>
__device__ LeftOperand left_operand(const OperandTile<T, D, Rows>& tile, int row, int column) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  LeftOperand operand;
  load_matrices(operand.parts, &tile.rows[row + lane % 16][column + lane / 16 * 8]);
  return operand;
}
/// The transpose of rows [row, row + 16) and columns [column, column + 16).
template <typename T, int D, int Rows>
__device__ LeftOperand left_of_columns(const OperandTile<T, D, Rows>& tile, int row, int column) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  LeftOperand operand;
  load_matrices_transposed(operand.parts, &tile.rows[row + lane / 16 * 8 + lane % 8][column + lane / 8 % 2 * 8]);
  return operand;
}
/// The transpose of rows [row, row + 16) and columns [column, column + 16): the inner index along the columns.
template <typename T, int D, int Rows>
__device__ RightOperands right_of_rows(const OperandTile<T, D, Rows>& tile, int row, int column) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  RightOperands operands;
  load_matrices(operands.parts, &tile.rows[row + lane / 16 * 8 + lane % 8][column + lane / 8 % 2 * 8]);
  return operands;
}
/// Rows [row, row + 16) and columns [column, column + 16): the inner index along the rows.
template <typename T, int D, int Rows>
__device__ RightOperands right_of_columns(const OperandTile<T, D, Rows>& tile, int row, int column) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  RightOperands operands;
  load_matrices_transposed(operands.parts, &tile.rows[row + lane % 16][column + lane / 16 * 8]);
  return operands;
}

/// sums += left · right, in fp32. The launchers see to it that no GPU without the instruction gets here.
template <typename T>
__device__ void multiply_add(float (&sums)[4], const LeftOperand& left, std::uint32_t right0, std::uint32_t right1);
template <>
__device__ inline void multiply_add<__nv_bfloat16>(float (&sums)[4], const LeftOperand& left, std::uint32_t right0,
                                                   std::uint32_t right1) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(left.parts[0]), "r"(left.parts[1]), "r"(left.parts[2]), "r"(left.parts[3]), "r"(right0), "r"(right1));
#else
  __trap();
#endif
}

/// Two neighbours, rounded, the first in the lower half.
template <typename T>
__device__ std::uint32_t rounded_pair(float first, float second);
template <>
__device__ inline std::uint32_t rounded_pair<__nv_bfloat16>(float first, float second) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
  return *reinterpret_cast<const std::uint32_t*>(&pair);
}

/// Two fragments side by side, `step` of `tile`, rounded, as the left operand of columns [16 step, 16 step + 16).
template <typename T, int Count>
__device__ LeftOperand rounded_operand(const float (&tile)[Count][4], int step) {
  const float(&low)[4] = tile[2 * step];
  const float(&high)[4] = tile[2 * step + 1];
  return {{rounded_pair<T>(low[0], low[1]), rounded_pair<T>(low[2], low[3]), rounded_pair<T>(high[0], high[1]),
           rounded_pair<T>(high[2], high[3])}};
}

/// tile += left · right_tileᵀ, of the latter the rows from `first` on and the 16 columns of `step`.
template <typename T, int D, int Rows, int Count>
__device__ void mma_rows(float (&tile)[Count][4], const LeftOperand& left, const OperandTile<T, D, Rows>& right,
                         int first, int step) {
#pragma unroll
  for (int n = 0; n < Count / 2; ++n) {
    const RightOperands b = right_of_rows(right, first + 16 * n, 16 * step);
    multiply_add<T>(tile[2 * n], left, b.parts[0], b.parts[1]);
    multiply_add<T>(tile[2 * n + 1], left, b.parts[2], b.parts[3]);
  }
}

/// tile = rows [row, row + 16) of left · the rows of right from `first` on, transposed.
template <typename T, int D, int LeftRows, int RightRows, int Count>
__device__ void mma_scores(float (&tile)[Count][4], const OperandTile<T, D, LeftRows>& left, int row,
                           const OperandTile<T, D, RightRows>& right, int first = 0) {
#pragma unroll
  for (int n = 0; n < Count; ++n)
    for (int e = 0; e < 4; ++e) tile[n][e] = 0.0F;
#pragma unroll
  for (int step = 0; step < D / 16; ++step) mma_rows(tile, left_operand(left, row, 16 * step), right, first, step);
}

/// sums += left · rows [first, first + 16) of right, of these the columns from `column` on.
template <typename T, int D, int Rows, int Count>
__device__ void mma_columns(float (&sums)[Count][4], const LeftOperand& left, const OperandTile<T, D, Rows>& right,
                            int first, int column = 0) {
#pragma unroll
  for (int n = 0; n < Count / 2; ++n) {
    const RightOperands b = right_of_columns(right, first, column + 16 * n);
    multiply_add<T>(sums[2 * n], left, b.parts[0], b.parts[1]);
    multiply_add<T>(sums[2 * n + 1], left, b.parts[2], b.parts[3]);
  }
}

/// sums += tile · right, the tile's elements rounded.
template <typename T, int D, int Rows, int Count>
__device__ void mma_add(float (&sums)[D / 8][4], const float (&tile)[Count][4], const OperandTile<T, D, Rows>& right) {
#pragma unroll
  for (int step = 0; step < Count / 2; ++step) mma_columns(sums, rounded_operand<T>(tile, step), right, 16 * step);
}

}  // namespace spillway::kernels::cuda
