// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/philox.hpp"

namespace spillway::kernels::cpu {

namespace detail {

using Draws [[gnu::vector_size(32)]] = std::uint32_t;
using WideDraws [[gnu::vector_size(32)]] = std::uint64_t;

struct Products {
  Draws high, low;
};

/// The two halves of the 64-bit products of eight numbers and one.
[[gnu::always_inline]] inline Products multiply(const Draws& numbers, std::uint32_t factor) {
  constexpr std::uint64_t kLowHalf = 0xFFFFFFFFU;
  const auto pairs = reinterpret_cast<WideDraws>(numbers);
  const WideDraws even = (pairs & kLowHalf) * std::uint64_t{factor};
  const WideDraws odd = (pairs >> 32) * std::uint64_t{factor};
  return {.high = reinterpret_cast<Draws>((even >> 32) | (odd & ~kLowHalf)),
          .low = reinterpret_cast<Draws>((even & kLowHalf) | (odd << 32))};
}

/// One round of Philox on eight counters.
struct Counters {
  Draws c0, c1, c2, c3;

  [[gnu::always_inline]] void round(std::uint32_t key0, std::uint32_t key1) {
    const Products product0 = multiply(c0, 0xD2511F53U);
    const Products product1 = multiply(c2, 0xCD9E8D57U);
    c0 = product1.high ^ c1 ^ key0;
    c1 = product1.low;
    c2 = product0.high ^ c3 ^ key1;
    c3 = product0.low;
  }
  /// The draws of all counters, counter by counter.
  [[gnu::always_inline]] void write(std::uint32_t* draws) const {
    for (int i = 0; i < 8; ++i) {
      draws[4 * i] = c0[i];
      draws[4 * i + 1] = c1[i];
      draws[4 * i + 2] = c2[i];
      draws[4 * i + 3] = c3[i];
    }
  }
};

}  // namespace detail

/// The draws of sixteen counters that follow one another, each word of all of them in vectors.
struct SixteenDraws {
  detail::Counters low, high;

  /// Word 0 to 3 of the draws of all sixteen.
  template <int Word>
  [[gnu::always_inline]] void word(std::uint32_t* sixteen) const {
    const detail::Draws* const words[] = {&low.c0, &low.c1, &low.c2, &low.c3, &high.c0, &high.c1, &high.c2, &high.c3};
    __builtin_memcpy(sixteen, words[Word], sizeof(detail::Draws));
    __builtin_memcpy(sixteen + 8, words[Word + 4], sizeof(detail::Draws));
  }
  /// All 64, counter by counter.
  [[gnu::always_inline]] void write(std::uint32_t* draws) const {
    low.write(draws);
    high.write(draws + 32);
  }
};

/// Philox::draw of {first[0] + i, first[1], first[2], first[3]}, i from 0 to 15.
[[gnu::always_inline]] inline SixteenDraws philox_sixteen(std::uint64_t key, const Philox::Counter& first) {
  using detail::Draws;
  const Draws counters = Draws{0, 1, 2, 3, 4, 5, 6, 7} + first[0];
  const Draws c1 = Draws{} + first[1], c2 = Draws{} + first[2], c3 = Draws{} + first[3];
  SixteenDraws draws{{counters, c1, c2, c3}, {counters + 8U, c1, c2, c3}};
  auto key0 = static_cast<std::uint32_t>(key);
  auto key1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    draws.low.round(key0, key1);
    draws.high.round(key0, key1);
    key0 += 0x9E3779B9U;
    key1 += 0xBB67AE85U;
  }
  return draws;
}

}  // namespace spillway::kernels::cpu
