// SPDX-License-Identifier: Apache-2.0
#include "train/extents.hpp"

#include <algorithm>

namespace spillway::train {

std::vector<Extent> make_extents(const Zero& zero, std::int64_t elements) {
  std::vector<Extent> extents;
  for (int unit = 0; unit < zero.map->units(); ++unit) {
    const std::int64_t size = zero.owned(unit).size();
    for (std::int64_t begin = 0; begin < size; begin += elements)
      extents.push_back({unit, {begin, std::min(begin + elements, size)}});
  }
  return extents;
}

}  // namespace spillway::train
