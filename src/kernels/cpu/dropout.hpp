// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/philox.hpp"
#include "kernels/common.hpp"

namespace spillway::kernels::cpu {

/// Columns whose dropout factors are made at once: 16 draws of 8 lanes.
inline constexpr std::int64_t kDropoutChunk = 128;

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

/// The factors (0 or scale) of 128 elements: those of the 16 counters {first, sample, site, head}, {first + 1, ...},
/// ...
/// \param factors  128 floats
[[gnu::always_inline]] inline void dropout_factors(const Dropout& dropout, std::uint32_t first, std::uint32_t sample,
                                                   std::uint32_t head, float* factors) {
  using detail::Draws;
  // Philox::draw for twice eight counters in step.
  const Draws counters = Draws{0, 1, 2, 3, 4, 5, 6, 7} + first;
  const Draws samples = Draws{} + sample, sites = Draws{} + dropout.site, heads = Draws{} + head;
  detail::Counters low{counters, samples, sites, heads};
  detail::Counters high{counters + 8U, samples, sites, heads};
  auto key0 = static_cast<std::uint32_t>(dropout.key);
  auto key1 = static_cast<std::uint32_t>(dropout.key >> 32);
  for (int round = 0; round < 10; ++round) {
    low.round(key0, key1);
    high.round(key0, key1);
    key0 += 0x9E3779B9U;
    key1 += 0xBB67AE85U;
  }
  std::uint32_t draws[kDropoutChunk / 2];
  low.write(draws);
  high.write(draws + 32);
  const std::uint32_t threshold = dropout.threshold();
  const float scale = dropout.scale();
  for (int i = 0; i < kDropoutChunk / 2; ++i) {
    factors[2 * i] = (draws[i] & 0xFFFFU) >= threshold ? scale : 0.0F;
    factors[2 * i + 1] = (draws[i] >> 16) >= threshold ? scale : 0.0F;
  }
}

/// Which row of which head's probabilities.
struct ProbabilityRow {
  std::uint32_t sample = 0;
  std::uint32_t head = 0;
  std::uint32_t query = 0;  // position in its sequence
  std::int64_t keys = 0;    // of the whole key sequence, masked ones too
};

/// The factors of the first `count` keys of an attention site; writes up to a multiple of kDropoutChunk.
[[gnu::always_inline]] inline void dropout_factors(const Dropout& dropout, const ProbabilityRow& row,
                                                   std::int64_t count, float* factors) {
  const auto first = static_cast<std::uint32_t>(row.query * ((row.keys + 7) / 8));
  for (std::int64_t key = 0; key < count; key += kDropoutChunk)
    dropout_factors(dropout, first + static_cast<std::uint32_t>(key / 8), row.sample, row.head, factors + key);
}

/// The dropout factors of a row-wise site, a row at a time, 128 columns at a time; all 1 where dropout is off.
class RowDropout {
 public:
  /// \param dropout, sequences  must outlive this; the sequences are looked at only if dropout is active
  [[gnu::always_inline]] RowDropout(const Dropout& dropout, const PackedSequences& sequences, std::int64_t width)
      : dropout_(dropout), active_(dropout.active()), groups_((width + 7) / 8) {
    if (active_) {
      samples_ = sequences.row_sample.as<std::int32_t>().data();
      positions_ = sequences.row_position.as<std::int32_t>().data();
    } else {
      for (float& factor : factors_) factor = 1.0F;
    }
  }

  [[gnu::always_inline]] void start_row(std::int64_t row) {
    if (!active_) return;
    sample_ = static_cast<std::uint32_t>(samples_[row]);
    first_ = static_cast<std::uint32_t>(positions_[row] * groups_);
  }

  /// The factors of columns column to column + 127, valid until the next call.
  /// \param column  a multiple of 128
  [[gnu::always_inline]] const float* factors(std::int64_t column) {
    if (active_) dropout_factors(dropout_, first_ + static_cast<std::uint32_t>(column / 8), sample_, 0, factors_);
    return factors_;
  }

 private:
  const Dropout& dropout_;
  bool active_;
  std::int64_t groups_;
  const std::int32_t* samples_ = nullptr;
  const std::int32_t* positions_ = nullptr;
  std::uint32_t sample_ = 0;
  std::uint32_t first_ = 0;
  alignas(64) float factors_[kDropoutChunk];
};

}  // namespace spillway::kernels::cpu
