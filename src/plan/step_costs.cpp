// SPDX-License-Identifier: Apache-2.0
#include "plan/step_costs.hpp"

#include <algorithm>

namespace spillway::plan {

StateBytes state_bytes(const Placement& placement, const JobFacts& job) {
  StateBytes state;
  for (std::size_t kind = 0; kind < job.kinds.size(); ++kind) {
    std::vector<TierBytes>& units = state.kinds.emplace_back(job.program.units.size());
    for (std::size_t extent = 0; extent < job.extent_units.size(); ++extent)
      units.at(
          static_cast<std::size_t>(job.extent_units[extent]))[static_cast<std::size_t>(placement.tier(kind, extent))] +=
          static_cast<double>(job.kinds[kind].bytes[extent]);
  }
  if (placement.on_cpu.empty()) return state;
  state.on_cpu.resize(job.program.units.size());
  for (std::size_t extent = 0; extent < job.extent_units.size(); ++extent) {
    if (!placement.updated_on_cpu(extent)) continue;
    CpuUpdateBytes& unit = state.on_cpu.at(static_cast<std::size_t>(job.extent_units[extent]));
    if (job.kinds.size() > kGradientKind) unit.gradient += static_cast<double>(job.kinds[kGradientKind].bytes[extent]);
    for (std::size_t kind = 0; kind < std::min(job.kinds.size(), kGradientKind); ++kind)
      unit.state[static_cast<std::size_t>(placement.tier(kind, extent))] +=
          static_cast<double>(job.kinds[kind].bytes[extent]);
  }
  return state;
}

StateBytes state_bytes(const Placement& placement, const Shape& shape, const JobFacts& job, const StepCosts& costs) {
  StateBytes state = state_bytes(placement, job);
  if (shape.host_stages == 0) return state;
  const std::vector<std::size_t> places = host_stage_bytes(job, shape);
  for (std::size_t stage = 0; stage < places.size(); ++stage)
    state.host_residuals.push_back(places[stage] > 0 ? costs.stages[stage].residual_bytes : 0.0);
  return state;
}

}  // namespace spillway::plan
