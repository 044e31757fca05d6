// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/cuda/attention_tile.cuh"

namespace spillway::kernels::cuda {

// Dropout of a warp's fragments. Each draw has the lanes of eight neighbouring keys; the lanes of a warp make one draw after the other
// and hand each other the bits.

/// The bits of a warp's rows g and g + 8 of a tile of kTile keys, rows being queries: bit j % 32 of words[half][j / 32] is local key j.
/// All lanes of a row have them.
struct KeptKeys {
  std::uint32_t words[2][2];
};

/// \param keys  how many of the tile's keys some row of the warp sees: the others' bits are left 0
template <typename T>
__device__ KeptKeys draw_rows(const AttentionArguments<T>& op, const QueryDraws (&rows)[2], int head, int key,
                              int keys) {
  const int quarter = static_cast<int>(threadIdx.x % 4);
  KeptKeys kept{};
#pragma unroll
  for (int part = 0; part < 2; ++part) {
    if (32 * part < keys) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        std::uint32_t word = draw_bits(op, rows[half], head, key / 8 + 4 * part + quarter) << (8 * quarter);
        word |= __shfl_xor_sync(0xFFFFFFFFU, word, 1);
        kept.words[half][part] = word | __shfl_xor_sync(0xFFFFFFFFU, word, 2);
      }
    }
  }
  return kept;
}

/// The bits of fragments whose columns are 32 queries and whose rows g and g + 8 are keys: bit 8 (2 e + half) + g of words[n] is query
/// 8 n + 2 c + e and key g + 8 half.
struct KeptQueries {
  std::uint32_t words[4];
};

/// \param own   of the query with the lane's number
/// \param key   the first of the 16 keys
template <typename T>
__device__ KeptQueries draw_columns(const AttentionArguments<T>& op, const QueryDraws& own, int head, int key) {
  std::uint32_t bits = draw_bits(op, own, head, key / 8) | draw_bits(op, own, head, key / 8 + 1) << 8;
  const std::uint32_t next = __shfl_down_sync(0xFFFFFFFFU, bits, 1);
  bits |= next << 16;  // lanes of even number have queries of both e
  KeptQueries kept;
#pragma unroll
  for (int n = 0; n < 4; ++n)
    kept.words[n] = __shfl_sync(0xFFFFFFFFU, bits, 8 * n + static_cast<int>(threadIdx.x % 4) * 2);
  return kept;
}

/// All ones in each half of the result whose element is kept. \param low, high  words whose bit 8 byte + 7 tells it
__device__ inline std::uint32_t pair_mask(std::uint32_t low, std::uint32_t high, int byte) {
  std::uint32_t mask;
  // Each byte of the result is the sign of one of the eight bytes (low, high).
  const auto selector = static_cast<std::uint32_t>((8 + byte) * 0x11 | (12 + byte) * 0x1100);
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(mask) : "r"(low), "r"(high), "r"(selector));
  return mask;
}

}  // namespace spillway::kernels::cuda
