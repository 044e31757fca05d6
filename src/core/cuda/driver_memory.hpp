// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <optional>
#include <string>

namespace spillway::cuda {

/// Bytes of a GPU's memory that are in use, by whomever, as the driver's management library tells. Starts no context. None if the
/// library is not there, or does not know the GPU (a part of one, for instance).
/// \param uuid  as in CudaGpu
[[nodiscard]] std::optional<std::size_t> driver_used_bytes(const std::string& uuid);

}  // namespace spillway::cuda
