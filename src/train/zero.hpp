// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "comm/node_layout.hpp"
#include "core/shard_map.hpp"

namespace spillway::train {

/// Who holds what: the arithmetic of a ZeRO stage over a ShardMap of as many pieces as there are ranks. The ranks form groups of
/// `shards`; the ranks of a group share one copy of the state, so there are ranks / shards copies. Stage 0 is groups of one.
/// Every rank sums, measures and saves one piece of every unit, whatever stage and groups are, so the numbers stay the same.
struct Zero {
  int stage = 3;
  int rank = 0;
  int shards = 1;                 // ranks of a group
  int shard = 0;                  // this rank's place in its group
  int copy = 0;                   // its group's number
  std::vector<int> pieces = {0};  // the piece of each rank
  const ShardMap* map = nullptr;

  /// \param nodes  what a group is at stages 1 to 3: all ranks as one node, or the real nodes
  /// \throws ConfigError if the groups are not of one size, naming them
  [[nodiscard]] static Zero over(const ShardMap& map, int stage, int rank, const comm::NodeLayout& nodes);

  [[nodiscard]] int copies() const { return map->ranks() / shards; }
  /// State is shared out: no rank has all of it.
  [[nodiscard]] bool sharded() const noexcept { return shards > 1; }
  /// Which rank has each piece.
  [[nodiscard]] std::vector<std::size_t> rank_of_piece() const;
  [[nodiscard]] int piece() const { return pieces[static_cast<std::size_t>(rank)]; }
  /// What this rank stores and updates of a unit, in elements of the unit: the pieces of the ranks that have its place in their
  /// groups, which are neighbours.
  [[nodiscard]] Range owned(int unit) const {
    const std::int64_t size = map->shard_elements(unit) * copies();
    return {shard * size, (shard + 1) * size};
  }
  /// Its own piece, counted from the start of what it owns.
  [[nodiscard]] Range piece_in_owned(int unit) const {
    const std::int64_t size = map->shard_elements(unit);
    return {copy * size, (copy + 1) * size};
  }
};

}  // namespace spillway::train
