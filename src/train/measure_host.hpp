// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/device.hpp"
#include "plan/machine_profile.hpp"

namespace spillway::train {

/// Measures memory, products and AdamW of the CPUs that this process may use, all at once: with at most 600 MiB, in a few seconds.
/// \param threads  that compute
[[nodiscard]] plan::HostProfile measure_host(int threads);

/// Bytes a second that host memory is read and written, while AdamW of `threads` threads runs beside copies to and from a GPU: more than
/// either gets out of it alone. In a second or so, with 1 GiB of host memory and 256 MiB of `device`'s.
/// \throws what its allocations and copies throw
[[nodiscard]] double memory_rate_beside_copies(Device& device, int threads);

}  // namespace spillway::train
