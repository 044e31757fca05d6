// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "plan/machine_profile.hpp"

namespace spillway::train {

/// Something that costs speed or room, and what to do about it.
struct Finding {
  std::string what;
  std::string remedy;
};

/// The connection of a PCI device, as the system says it.
struct PciLink {
  int width = 0, best_width = 0;         // lanes
  double speed = 0.0, best_speed = 0.0;  // GT/s of a lane
};

/// What the system says about itself; nothing is measured for it. What cannot be read is left out.
struct SystemState {
  std::optional<std::uint64_t> locked_bytes;  // that may be locked; none: without limit
  int usable_cpus = 0, online_cpus = 0;
  std::uint64_t memory_bytes = 0;  // of the machine
  std::uint64_t swap_bytes = 0, free_swap_bytes = 0;
  std::optional<std::uint64_t> room_bytes;  // that control groups leave; none: no limit
  bool huge_pages = true;                   // transparent ones are not switched off
  std::optional<PciLink> gpu_link;
};

/// \param pci_bus_id  of the GPU: "0000:1b:00.0"; "": there is none
/// \param pci_devices where the system lists PCI devices
[[nodiscard]] SystemState read_system_state(const std::string& pci_bus_id,
                                            const std::string& pci_devices = "/sys/bus/pci/devices");

/// What is wrong with it. \param pcie  as measured; null: it was not
[[nodiscard]] std::vector<Finding> findings_of(const SystemState& state, const plan::PcieProfile* pcie);

/// A list for people, or one line that says that nothing was found.
[[nodiscard]] std::string findings_text(const std::vector<Finding>& findings);

}  // namespace spillway::train
