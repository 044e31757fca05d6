// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "comm/communicator.hpp"
#include "train/zero.hpp"

namespace spillway::train {

/// The groups of ranks that Zero makes, to talk in. The world outlives them.
class RankGroups {
 public:
  /// Collective.
  RankGroups(const Zero& zero, comm::Communicator& world);

  [[nodiscard]] comm::Communicator& world() const { return world_; }
  /// The ranks that share one copy of the state, in the order of their places.
  [[nodiscard]] comm::Communicator& group() const { return group_ ? *group_ : world_; }
  /// The ranks that have this rank's place in their groups, in the order of groups.
  [[nodiscard]] comm::Communicator& copies() const { return copies_ ? *copies_ : world_; }

 private:
  comm::Communicator& world_;
  std::unique_ptr<comm::Communicator> group_, copies_;  // null where all ranks are meant
};

}  // namespace spillway::train
