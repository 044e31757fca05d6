// SPDX-License-Identifier: Apache-2.0
#include "core/shard_map.hpp"

#include <algorithm>
#include <numeric>
#include <tuple>

#include <fmt/format.h>

#include "core/error.hpp"
#include "core/round_up.hpp"

namespace spillway {

ShardMap::ShardMap(std::vector<TensorSpec> tensors, int ranks, int units)
    : tensors_(std::move(tensors)), ranks_(ranks) {
  if (ranks < 1) throw Error(fmt::format("a shard map needs at least one rank, found {}", ranks));
  for (const TensorSpec& tensor : tensors_) {
    if (tensor.unit < 0 || tensor.unit >= kMostUnits)
      throw Error(fmt::format("tensor {}: unit {}, expected 0 to {}", tensor.name, tensor.unit, kMostUnits - 1));
    units = std::max(units, tensor.unit + 1);
  }
  std::sort(tensors_.begin(), tensors_.end(), [](const TensorSpec& a, const TensorSpec& b) {
    return std::tie(a.unit, a.offset) < std::tie(b.unit, b.offset);
  });
  unit_end_.resize(static_cast<std::size_t>(units), 0);
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    const TensorSpec& tensor = tensors_[i];
    const auto unit = static_cast<std::size_t>(tensor.unit);
    if (unit_first_tensor_.size() <= unit) unit_first_tensor_.resize(unit + 1, i);
    std::int64_t& end = unit_end_[unit];
    if (tensor.offset < end)
      throw Error(fmt::format("tensor {}: offset {} of unit {} overlaps what ends at {}", tensor.name, tensor.offset,
                              tensor.unit, end));
    end = tensor.offset + tensor.shape.elements();
  }
  unit_first_tensor_.resize(unit_end_.size() + 1, tensors_.size());
}

std::int64_t ShardMap::shard_elements(int unit) const {
  return round_up(unit_end_.at(static_cast<std::size_t>(unit)), kShardAlignment * ranks_) / ranks_;
}

Range ShardMap::shard(int unit, int rank) const {
  const std::int64_t size = shard_elements(unit);
  return {rank * size, (rank + 1) * size};
}

std::vector<TensorPiece> ShardMap::pieces(int unit, Range range) const {
  std::vector<TensorPiece> result;
  for (std::size_t i = unit_first_tensor_.at(static_cast<std::size_t>(unit));
       i < unit_first_tensor_.at(static_cast<std::size_t>(unit) + 1); ++i) {
    const TensorSpec& tensor = tensors_[i];
    const std::int64_t begin = std::max(range.begin, tensor.offset);
    const std::int64_t end = std::min(range.end, tensor.offset + tensor.shape.elements());
    if (begin < end) result.push_back({static_cast<int>(i), begin - tensor.offset, begin - range.begin, end - begin});
  }
  return result;
}

std::int64_t ShardMap::rank_elements() const {
  std::int64_t sum = 0;
  for (int unit = 0; unit < units(); ++unit) sum += shard_elements(unit);
  return sum;
}

std::int64_t ShardMap::parameters() const {
  return std::accumulate(tensors_.begin(), tensors_.end(), std::int64_t{0},
                         [](std::int64_t sum, const TensorSpec& tensor) { return sum + tensor.shape.elements(); });
}

std::vector<Range> ShardMap::norm_blocks(int unit) const {
  std::vector<Range> blocks;
  const std::int64_t size = shard_elements(unit);
  for (std::int64_t begin = 0; begin < size; begin += kNormBlock)
    blocks.push_back({begin, std::min(begin + kNormBlock, size)});
  return blocks;
}

}  // namespace spillway
