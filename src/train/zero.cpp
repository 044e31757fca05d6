// SPDX-License-Identifier: Apache-2.0
#include "train/zero.hpp"

#include <fmt/format.h>

#include "core/error.hpp"

namespace spillway::train {

Zero Zero::over(const ShardMap& map, int stage, int rank, const comm::NodeLayout& nodes) {
  const comm::NodeLayout groups = stage == 0 ? comm::NodeLayout::filled(map.ranks(), 1) : nodes;
  for (int node = 1; node < groups.nodes(); ++node)
    if (groups.ranks_on(node) != groups.ranks_on(0))
      throw ConfigError(
          fmt::format("zero.shard_group = \"node\" needs as many ranks on every node: node 0 has {}, node {} has {}",
                      groups.ranks_on(0), node, groups.ranks_on(node)));
  return {.stage = stage,
          .rank = rank,
          .shards = groups.ranks_on(0),
          .shard = groups.local_rank_of(rank),
          .copy = groups.node_of(rank),
          .pieces = groups.piece_of_rank(),
          .map = &map};
}

std::vector<std::size_t> Zero::rank_of_piece() const {
  std::vector<std::size_t> ranks(pieces.size());
  for (std::size_t of = 0; of < pieces.size(); ++of) ranks[static_cast<std::size_t>(pieces[of])] = of;
  return ranks;
}

}  // namespace spillway::train
