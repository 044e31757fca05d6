// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "comm/communicator.hpp"
#include "core/shard_map.hpp"

namespace spillway::train {

/// Who holds what: the arithmetic of a ZeRO stage over a ShardMap. Stage 0 replicates all state, stage 3 shards it. Reductions and the
/// gradient norm follow the same shards at every stage, so that the numbers do.
struct Zero {
  int stage = 3;
  int rank = 0;
  const ShardMap* map = nullptr;

  /// Weights are gathered before use.
  [[nodiscard]] bool sharded() const noexcept { return stage == 3 && map->ranks() > 1; }
  /// What this rank stores and updates of a unit, in elements of the unit.
  [[nodiscard]] Range owned(int unit) const {
    return sharded() ? map->shard(unit, rank) : Range{0, map->unit_elements(unit)};
  }
  /// This rank's shard, counted from the start of what it owns.
  [[nodiscard]] Range shard_in_owned(int unit) const {
    const Range shard = map->shard(unit, rank);
    const std::int64_t start = owned(unit).begin;
    return {shard.begin - start, shard.end - start};
  }
  /// Where unit's owned elements start in a buffer that holds those of all units one after the other.
  [[nodiscard]] std::int64_t owned_offset(int unit) const {
    std::int64_t offset = 0;
    for (int before = 0; before < unit; ++before) offset += owned(before).size();
    return offset;
  }
  [[nodiscard]] std::int64_t owned_elements() const { return owned_offset(map->units()); }
  /// Elements of the largest unit but the persistent one.
  [[nodiscard]] std::int64_t largest_unit() const {
    std::int64_t largest = 0;
    for (int unit = 1; unit < map->units(); ++unit) largest = std::max(largest, map->unit_elements(unit));
    return largest;
  }
};

}  // namespace spillway::train
