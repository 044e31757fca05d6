// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/round_up.hpp"
#include "core/tensor_view.hpp"

namespace spillway {

/// Every shard starts at a multiple of this many elements, and so do tensors, save those that follow another to be read with it in
/// one product.
inline constexpr std::int64_t kShardAlignment = 256;
/// The gradient norm is summed over blocks of at most this many elements, which never cross a shard's edge.
inline constexpr std::int64_t kNormBlock = 65536;
/// More units than any model has; a unit number from a file cannot make a map large.
inline constexpr int kMostUnits = 4096;

/// [begin, end) in elements.
struct Range {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  [[nodiscard]] std::int64_t size() const noexcept { return end - begin; }
  friend bool operator==(const Range&, const Range&) = default;
};

/// One parameter tensor and where it lies in its unit's flat buffer.
struct TensorSpec {
  std::string name;  // Hugging Face's
  Shape shape;
  int unit = 0;
  std::int64_t offset = 0;  // elements from the start of the unit
  friend bool operator==(const TensorSpec&, const TensorSpec&) = default;
};

/// Part of a tensor inside a range of its unit.
struct TensorPiece {
  int tensor = 0;                 // index into ShardMap::tensors()
  std::int64_t tensor_begin = 0;  // first element, flat, inside the tensor
  std::int64_t range_begin = 0;   // the same element, counted from the range's start
  std::int64_t count = 0;         // elements
};

/// The pure arithmetic of sharding: which rank owns which elements of which unit. Every rank's shard of a unit is
/// an equal part of the unit's flat buffer, padded with zeros to a multiple of kShardAlignment times the ranks.
/// A unit may be empty: the state of a model of which units are frozen keeps the model's unit numbers.
class ShardMap {
 public:
  /// \param tensors  in any order; offsets must be those of a valid layout (inside a unit ascending, not overlapping)
  /// \param units    at least so many, where the last ones may be empty; else up to the highest that has a tensor
  /// \throws Error if tensors overlap, or if a unit is negative or not below kMostUnits
  ShardMap(std::vector<TensorSpec> tensors, int ranks, int units = 0);

  [[nodiscard]] int ranks() const noexcept { return ranks_; }
  [[nodiscard]] int units() const noexcept { return static_cast<int>(unit_end_.size()); }
  /// Sorted by unit, then offset.
  [[nodiscard]] const std::vector<TensorSpec>& tensors() const noexcept { return tensors_; }
  /// Elements of the unit's gathered buffer: the padded size, size of a shard times ranks.
  [[nodiscard]] std::int64_t unit_elements(int unit) const { return shard_elements(unit) * ranks_; }
  /// Zero for an empty unit.
  [[nodiscard]] std::int64_t shard_elements(int unit) const;
  /// The part of the unit's flat buffer that `rank` owns.
  [[nodiscard]] Range shard(int unit, int rank) const;
  /// What tensors lie in a range of a unit's flat buffer, ascending. Padding belongs to no tensor.
  [[nodiscard]] std::vector<TensorPiece> pieces(int unit, Range range) const;
  /// Elements of all shards of one rank.
  [[nodiscard]] std::int64_t rank_elements() const;
  /// Elements of all tensors, without padding.
  [[nodiscard]] std::int64_t parameters() const;
  /// Blocks of the gradient norm inside one shard of a unit, counted from the shard's start.
  [[nodiscard]] std::vector<Range> norm_blocks(int unit) const;

 private:
  std::vector<TensorSpec> tensors_;
  std::vector<std::int64_t> unit_end_;  // end of the last tensor
  std::vector<std::size_t> unit_first_tensor_;
  int ranks_;
};

}  // namespace spillway
