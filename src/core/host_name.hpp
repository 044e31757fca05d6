// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace spillway {

/// What this machine calls itself; "localhost" if it does not say.
[[nodiscard]] std::string host_name();

}  // namespace spillway
