// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/common.hpp"
#include "kernels/cuda/octet.cuh"
#include "kernels/cuda/philox.cuh"

namespace spillway::kernels::cuda {

/// A Dropout as kernels take it: what its member functions compute has been computed.
struct DropoutDraws {
  explicit DropoutDraws(const Dropout& dropout)
      : key(dropout.key),
        site(dropout.site),
        threshold(dropout.threshold()),
        scale(dropout.active() ? dropout.scale() : 1.0F) {}

  /// The factors, 0 or scale, of the eight lanes of Philox(key, {block, sample, site, head}).
  __device__ Octet factors(std::uint32_t block, std::uint32_t sample, std::uint32_t head) const {
    const uint4 draws = philox(key, uint4{block, sample, site, head});
    const std::uint32_t words[4] = {draws.x, draws.y, draws.z, draws.w};
    Octet result;
#pragma unroll
    for (int i = 0; i < kOctet / 2; ++i) {
      result.values[2 * i] = (words[i] & 0xFFFFU) >= threshold ? scale : 0.0F;
      result.values[2 * i + 1] = (words[i] >> 16) >= threshold ? scale : 0.0F;
    }
    return result;
  }
  [[nodiscard]] __device__ bool active() const { return threshold > 0; }

  std::uint64_t key;
  std::uint32_t site;
  std::uint32_t threshold;
  float scale;
};

/// The dropout of a row-wise site.
class RowDropout {
 public:
  /// The sequences are looked at only if dropout is active.
  RowDropout(const Dropout& dropout, const PackedSequences& sequences, std::int64_t width)
      : draws_(dropout),
        octets_(static_cast<std::uint32_t>(octets_of(width))),
        samples_(reinterpret_cast<const std::int32_t*>(sequences.row_sample.data())),
        positions_(reinterpret_cast<const std::int32_t*>(sequences.row_position.data())) {}

  /// What is left of columns 8 octet to 8 octet + 7 of a row.
  [[nodiscard]] __device__ Octet of(const Octet& values, std::int64_t row, std::int64_t octet) const {
    if (!draws_.active()) return values;
    const auto first = static_cast<std::uint32_t>(positions_[row]) * octets_;
    return values *
           draws_.factors(first + static_cast<std::uint32_t>(octet), static_cast<std::uint32_t>(samples_[row]), 0);
  }

 private:
  DropoutDraws draws_;
  std::uint32_t octets_;
  const std::int32_t* samples_;
  const std::int32_t* positions_;
};

}  // namespace spillway::kernels::cuda
