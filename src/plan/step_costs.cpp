// SPDX-License-Identifier: Apache-2.0
#include "plan/step_costs.hpp"

namespace spillway::plan {

StateBytes state_bytes(const std::vector<Tier>& tiers, const StepCosts& costs) {
  StateBytes bytes;
  for (std::size_t kind = 0; kind < tiers.size(); ++kind) {
    std::vector<TierBytes>& units = bytes.kinds.emplace_back();
    for (const UnitCosts& unit : costs.units) {
      TierBytes of_unit{};
      of_unit[static_cast<std::size_t>(tiers[kind])] = unit.kind_bytes.at(kind);
      units.push_back(of_unit);
    }
  }
  return bytes;
}

}  // namespace spillway::plan
