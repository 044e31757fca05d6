// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/pickle.hpp"

namespace spillway::checkpoint {

/// A tensor as a state dict's pickle describes it. Nothing here was compared with the file yet.
struct StateDictTensor {
  std::string name;
  std::string dtype;    // safetensors' names
  std::string storage;  // its key
  std::int64_t storage_elements = 0;
  std::int64_t offset = 0;  // elements from the start of the storage
  std::vector<std::int64_t> shape, strides;
};

/// The tensors of a pickled state dict: a dict from names to torch._utils._rebuild_tensor_v2(storage, offset, size, stride, ...).
/// \throws DataError naming the entry that is something else
[[nodiscard]] std::vector<StateDictTensor> read_state_dict(const Pickle& pickle, const std::string& origin);

}  // namespace spillway::checkpoint
