// SPDX-License-Identifier: Apache-2.0
#include "train/rank_groups.hpp"

namespace spillway::train {
namespace {

std::unique_ptr<comm::Communicator> join(comm::Communicator& world, int size, int color, int key) {
  if (size == world.size()) return nullptr;
  if (size == 1) return comm::make_single_communicator();
  return world.split(color, key);
}

}  // namespace

RankGroups::RankGroups(const Zero& zero, comm::Communicator& world)
    : world_(world),
      group_(join(world, zero.shards, zero.copy, zero.shard)),
      copies_(join(world, zero.copies(), zero.shard, zero.copy)) {}

}  // namespace spillway::train
