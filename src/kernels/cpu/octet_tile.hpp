// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/cpu/lanes.hpp"

namespace spillway::kernels::cpu {

/// Eight rows of eight floats.
struct OctetTile {
  Octet rows[8];
};

/// The first `rows` rows and `columns` columns, at most 8 each, of the matrix at `from`; zeros elsewhere.
[[gnu::always_inline]] inline void load_tile(const float* from, std::int64_t stride, std::int64_t rows,
                                             std::int64_t columns, OctetTile& tile) {
  for (std::int64_t row = 0; row < 8; ++row) {
    tile.rows[row] = Octet{};
    if (row >= rows) continue;
    if (columns >= 8) {
      __builtin_memcpy(&tile.rows[row], from + row * stride, sizeof(Octet));
    } else {
      for (std::int64_t column = 0; column < columns; ++column) tile.rows[row][column] = from[row * stride + column];
    }
  }
}

/// In place, by exchanging single numbers, pairs and halves.
[[gnu::always_inline]] inline void transpose(OctetTile& tile) {
  constexpr IntOctet kLowSingles{0, 8, 1, 9, 4, 12, 5, 13}, kHighSingles{2, 10, 3, 11, 6, 14, 7, 15};
  constexpr IntOctet kLowPairs{0, 1, 8, 9, 4, 5, 12, 13}, kHighPairs{2, 3, 10, 11, 6, 7, 14, 15};
  constexpr IntOctet kLowHalves{0, 1, 2, 3, 8, 9, 10, 11}, kHighHalves{4, 5, 6, 7, 12, 13, 14, 15};
  OctetTile singles, pairs;
  for (int i = 0; i < 8; i += 2) {
    singles.rows[i] = __builtin_shuffle(tile.rows[i], tile.rows[i + 1], kLowSingles);
    singles.rows[i + 1] = __builtin_shuffle(tile.rows[i], tile.rows[i + 1], kHighSingles);
  }
  for (int i = 0; i < 8; i += 4) {
    for (int j = 0; j < 2; ++j) {
      pairs.rows[i + 2 * j] = __builtin_shuffle(singles.rows[i + j], singles.rows[i + j + 2], kLowPairs);
      pairs.rows[i + 2 * j + 1] = __builtin_shuffle(singles.rows[i + j], singles.rows[i + j + 2], kHighPairs);
    }
  }
  for (int i = 0; i < 4; ++i) {
    tile.rows[i] = __builtin_shuffle(pairs.rows[i], pairs.rows[i + 4], kLowHalves);
    tile.rows[i + 4] = __builtin_shuffle(pairs.rows[i], pairs.rows[i + 4], kHighHalves);
  }
}

}  // namespace spillway::kernels::cpu
