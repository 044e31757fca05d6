// SPDX-License-Identifier: Apache-2.0
#include "train/zero.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "core/error.hpp"

namespace spillway::train {

Zero Zero::over(const ShardMap& map, int stage, int rank, std::span<const int> group_of_rank) {
  const int ranks = map.ranks();
  std::vector<int> group(group_of_rank.begin(), group_of_rank.end());
  if (stage == 0)
    for (int r = 0; r < ranks; ++r) group[static_cast<std::size_t>(r)] = r;
  const int groups = *std::ranges::max_element(group) + 1;
  std::vector<int> members(static_cast<std::size_t>(groups), 0);
  std::vector<int> place;  // of each rank in its group
  for (const int of : group) place.push_back(members[static_cast<std::size_t>(of)]++);
  for (int other = 0; other < groups; ++other)
    if (members[static_cast<std::size_t>(other)] != members[0])
      throw ConfigError(fmt::format(
          "zero.shard_group = \"node\" needs the same number of ranks on every node: node 0 has {}, node {} has {}",
          members[0], other, members[static_cast<std::size_t>(other)]));

  Zero zero{.stage = stage, .rank = rank, .shards = members[0], .pieces = {}, .map = &map};
  for (std::size_t r = 0; r < group.size(); ++r) zero.pieces.push_back(place[r] * groups + group[r]);
  zero.shard = place[static_cast<std::size_t>(rank)];
  zero.copy = group[static_cast<std::size_t>(rank)];
  return zero;
}

}  // namespace spillway::train
