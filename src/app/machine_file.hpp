// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

#include "comm/communicator.hpp"
#include "core/device.hpp"
#include "plan/machine_profile.hpp"

namespace spillway::app {

/// Where `spillway doctor` keeps this machine's profile: $XDG_CONFIG_HOME/spillway/machine.json, or ~/.config instead; "" if neither
/// variable is set.
[[nodiscard]] std::string saved_profile_path();

/// A file, or one of the named profiles. \throws ConfigError for a name that is neither, or a file that is no profile
[[nodiscard]] plan::MachineProfile read_profile(const std::string& name_or_file);

/// The saved profile, as rank 0 has it; none if there is no such file. Blocks. \throws AgreedFailure if it is no profile
[[nodiscard]] std::optional<plan::MachineProfile> saved_profile(comm::Communicator& communicator);

/// What is known of the machine with that device, for predictions: the saved profile if it is of the same GPU, or the named one of that
/// GPU; for the host the saved one. A saved file that cannot be read is a warning. Blocks.
[[nodiscard]] std::optional<plan::MachineProfile> known_profile(const Device& device, comm::Communicator& communicator);

}  // namespace spillway::app
