// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "train/zero.hpp"

namespace spillway::train {

/// A fixed range of one unit's owned parameters, common to all its kinds of state: what the update and the tiers move at a time.
struct Extent {
  int unit = 0;
  Range range;  // in the unit's owned elements
};

/// Every unit's owned parameters cut into extents of at most `elements` (a multiple of kShardAlignment), in forward order.
[[nodiscard]] std::vector<Extent> make_extents(const Zero& zero, std::int64_t elements);

}  // namespace spillway::train
