// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <string>

#include "plan/machine_profile.hpp"
#include "plan/step_costs.hpp"
#include "plan/step_program.hpp"

namespace spillway::plan {

/// What a step keeps busy. pcie_both and nvme_both are what both directions at once cannot exceed together.
enum class Resource : std::size_t {
  compute,        // the kernels of the compute queue, one after the other; on the host the cores
  device_memory,  // of kernels that are bound by it, and of the update
  pcie_up,        // to the GPU
  pcie_down,
  pcie_both,
  host_memory,  // state and residuals that are streamed through it
  nvme_read,
  nvme_write,
  nvme_both,
  network,    // links between ranks
  cpu_update  // the cores, of what the CPU updates beside a GPU
};
inline constexpr std::size_t kResources = 11;

/// "compute", "pcie_up": keys of plan.json.
[[nodiscard]] const char* name_of(Resource resource) noexcept;
/// For people: "PCIe to the GPU".
[[nodiscard]] const char* words_of(Resource resource) noexcept;

/// Of one step.
struct ResourceUse {
  double busy_seconds = 0.0;
  double bytes = 0.0;
};

/// A step in its steady state, of one rank.
struct Prediction {
  double seconds = 0.0;          // from one step to the next
  double bound_seconds = 0.0;    // the longest that any one resource is busy: no order of the work could be faster
  double waiting_seconds = 0.0;  // that the compute queue waits for updates, weights and residuals, of `seconds`
  std::array<ResourceUse, kResources> resources{};
  [[nodiscard]] const ResourceUse& use(Resource resource) const {
    return resources[static_cast<std::size_t>(resource)];
  }
  /// The resource that is busy longest.
  [[nodiscard]] Resource bound() const;
  /// Bytes written to drives in a day of nothing but training, of all ranks of a node.
  [[nodiscard]] double nvme_bytes_a_day(int ranks_on_node) const;
};

/// Whether the profile has rates for all that such a step uses; if not, what is missing, as words for a message.
[[nodiscard]] std::string missing_rates(const MachineProfile& profile, const StepCosts& costs, const StateBytes& state);

/// Walks the program that `train` executes, twice, and takes the second: the update of the first runs under its forward pass.
/// Transfers of one direction run one after the other in the program's order, residuals and updates in equal parts. An update of device memory slows the forward pass beside
/// it by the part of it that memory binds. Pure arithmetic: a faster resource never gives a slower step, and no step is faster than its
/// busiest resource.
/// \param first_kept_stage  stages before it run again in the backward pass
/// \throws ConfigError if rates are missing
[[nodiscard]] Prediction simulate(const StepProgram& program, int first_kept_stage, const StepCosts& costs,
                                  const StateBytes& state, const MachineProfile& profile);

/// Operations a second of large products of a type, of one rank; 0 if there is none. On the host products of all types run in fp32.
[[nodiscard]] double product_rate(const MachineProfile& profile, const StepCosts& costs);

}  // namespace spillway::plan
