// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <utility>

#include "core/device.hpp"
#include "core/tensor_view.hpp"
#include "plan/plan.hpp"

namespace spillway::train {

/// The memory of a run, allocated before step 0: one buffer for each entry of the ledger that lives in device or host memory and
/// that nobody else allocates.
class Arena {
 public:
  /// \throws Error if the device cannot give what the ledger says
  Arena(Device& device, const plan::Ledger& ledger);

  /// The memory of an entry that is on one tier only; an empty view if the ledger has no such entry.
  [[nodiscard]] TensorView bytes(const std::string& name) const;
  /// Likewise of one that may be on several.
  [[nodiscard]] TensorView bytes(const std::string& name, plan::Tier tier) const;

 private:
  std::map<std::pair<std::string, plan::Tier>, std::pair<Buffer, std::size_t>> buffers_;
};

}  // namespace spillway::train
