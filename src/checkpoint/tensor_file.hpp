// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/ports.hpp"

namespace spillway::checkpoint {

/// What checkpoint.h5 says of the run, besides the tensors.
struct TensorFileFacts {
  std::int64_t step = 0;
  std::string metadata;  // JSON text of the run: configuration, numeric signature, cursor, ...; kept as given
  std::string creator;   // "spillway 0.1.0"
};

/// Writes checkpoint.h5: for every kind and tensor of its layout a virtual dataset `/<kind>/<name>` in the tensor's own shape, out of
/// the rank files beside it (which need not exist yet), and attributes of the root group. Durable when it returns.
/// \throws IoError
void write_tensor_file(const std::string& folder, const std::vector<StateKind>& kinds, const TensorFileFacts& facts);

/// The attribute `metadata` of a checkpoint.h5. \throws IoError
[[nodiscard]] std::string read_tensor_file_metadata(const std::string& folder);

}  // namespace spillway::checkpoint
