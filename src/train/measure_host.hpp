// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "plan/machine_profile.hpp"

namespace spillway::train {

/// Measures memory, products and AdamW of the CPUs that this process may use, all at once: with at most 600 MiB, in a few seconds.
/// \param threads  that compute
[[nodiscard]] plan::HostProfile measure_host(int threads);

}  // namespace spillway::train
