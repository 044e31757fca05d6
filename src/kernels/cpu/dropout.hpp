// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/common.hpp"
#include "kernels/cpu/philox_lanes.hpp"

namespace spillway::kernels::cpu {

/// Columns whose dropout factors are made at once: 16 draws of 8 lanes.
inline constexpr std::int64_t kDropoutChunk = 128;

/// The factors (0 or scale) of 128 elements: those of the 16 counters {first, sample, site, head}, {first + 1, ...},
/// ...
/// \param factors  128 floats
[[gnu::always_inline]] inline void dropout_factors(const Dropout& dropout, std::uint32_t first, std::uint32_t sample,
                                                   std::uint32_t head, float* factors) {
  std::uint32_t draws[kDropoutChunk / 2];
  philox_sixteen(dropout.key, {first, sample, dropout.site, head}).write(draws);
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
