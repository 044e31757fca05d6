// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/common.hpp"
#include "kernels/cuda/octet.cuh"
#include "kernels/cuda/philox.cuh"

namespace spillway::kernels::cuda {

/// The factors of eight elements, 0 or `scale`, by the eight 16-bit lanes of four draws.
__device__ inline Octet dropout_factors(uint4 draws, std::uint32_t threshold, float scale) {
  const std::uint32_t words[4] = {draws.x, draws.y, draws.z, draws.w};
  const std::uint32_t upper = threshold << 16;
  Octet result;
#pragma unroll
  for (int i = 0; i < kOctet / 2; ++i) {
    result.values[2 * i] = (words[i] << 16) >= upper ? scale : 0.0F;
    result.values[2 * i + 1] = words[i] >= upper ? scale : 0.0F;
  }
  return result;
}

/// Bit i: whether lane i of eight is kept.
__device__ inline std::uint32_t kept_lanes(uint4 draws, std::uint32_t threshold) {
  const std::uint32_t words[4] = {draws.x, draws.y, draws.z, draws.w};
  const std::uint32_t upper = threshold << 16;
  std::uint32_t bits = 0;
#pragma unroll
  for (int i = 0; i < kOctet / 2; ++i) {
    if ((words[i] << 16) >= upper) bits |= 1U << (2 * i);
    if (words[i] >= upper) bits |= 2U << (2 * i);
  }
  return bits;
}

/// A Dropout as kernels take it: what its member functions compute has been computed.
struct DropoutDraws {
  explicit DropoutDraws(const Dropout& dropout)
      : key(dropout.key),
        site(dropout.site),
        threshold(dropout.threshold()),
        scale(dropout.active() ? dropout.scale() : 1.0F) {}

  /// The factors, 0 or scale, of the eight lanes of Philox(key, {block, sample, site, head}).
  __device__ Octet factors(std::uint32_t block, std::uint32_t sample, std::uint32_t head) const {
    return dropout_factors(philox(key, uint4{block, sample, site, head}), threshold, scale);
  }
  [[nodiscard]] __device__ bool active() const { return threshold > 0; }

  std::uint64_t key;
  std::uint32_t site;
  std::uint32_t threshold;
  float scale;
};

/// Where a row is in its dropout.
struct DropoutRow {
  std::uint32_t first;  // counter of the row's first octet
  std::uint32_t sample;
};

/// The dropout of a row-wise site.
class RowDropout {
 public:
  /// The sequences are looked at only if dropout is active.
  RowDropout(const Dropout& dropout, const PackedSequences& sequences, std::int64_t width)
      : keys_(dropout.key),
        site_(dropout.site),
        threshold_(dropout.threshold()),
        scale_(dropout.active() ? dropout.scale() : 1.0F),
        octets_(static_cast<std::uint32_t>(octets_of(width))),
        samples_(reinterpret_cast<const std::int32_t*>(sequences.row_sample.data())),
        positions_(reinterpret_cast<const std::int32_t*>(sequences.row_position.data())) {}

  /// For the octets of a row; nothing is read if dropout is off.
  [[nodiscard]] __device__ DropoutRow row(std::int64_t row) const {
    if (threshold_ == 0) return {};
    return {static_cast<std::uint32_t>(positions_[row]) * octets_, static_cast<std::uint32_t>(samples_[row])};
  }

  /// What is left of columns 8 octet to 8 octet + 7 of a row.
  [[nodiscard]] __device__ Octet of(const Octet& values, const DropoutRow& row, int octet) const {
    if (threshold_ == 0) return values;
    const uint4 counter{row.first + static_cast<std::uint32_t>(octet), row.sample, site_, 0};
    return values * dropout_factors(philox(keys_, counter), threshold_, scale_);
  }
  /// What is left of a lane's split octet. Each lane of the warp draws for one octet and asks the two that drew for its halves; all call it.
  /// \param first  octet of the row that the warp's columns begin with
  [[nodiscard]] __device__ Octet of_split(const Octet& values, const DropoutRow& row, int first) const {
    if (threshold_ == 0) return values;
    const std::uint32_t lane = threadIdx.x % 32;
    const uint4 counter{row.first + static_cast<std::uint32_t>(first) + lane, row.sample, site_, 0};
    const std::uint32_t kept = kept_lanes(philox(keys_, counter), threshold_);
    Octet result;
#pragma unroll
    for (std::uint32_t half = 0; half < 2; ++half) {
      const std::uint32_t bits =
          __shfl_sync(0xFFFFFFFFU, kept, static_cast<int>(16 * half + lane / 2)) >> (lane % 2 * (kOctet / 2));
#pragma unroll
      for (int i = 0; i < kOctet / 2; ++i) {
        const int at = static_cast<int>(half) * (kOctet / 2) + i;
        result.values[at] = values.values[at] * ((bits >> i & 1U) != 0 ? scale_ : 0.0F);
      }
    }
    return result;
  }
  [[nodiscard]] __device__ Octet of(const Octet& values, std::int64_t row_number, std::int64_t octet) const {
    return of(values, row(row_number), static_cast<int>(octet));
  }

 private:
  PhiloxKeys keys_;
  std::uint32_t site_;
  std::uint32_t threshold_;
  float scale_;
  std::uint32_t octets_;
  const std::int32_t* samples_;
  const std::int32_t* positions_;
};

}  // namespace spillway::kernels::cuda
