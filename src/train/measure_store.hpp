// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "plan/machine_profile.hpp"
#include "train/machine_findings.hpp"

namespace spillway::train {

/// What a queue depth gives, bytes a second.
struct StoreRates {
  int depth = 0;
  double read = 0.0, write = 0.0, both = 0.0;
};

struct StoreMeasures {
  std::optional<plan::NvmeProfile>
      drives;  // at the depth that moves the most both ways; none: no directory can be used
  std::vector<StoreRates> depths;
};

/// Measures the directories together, as `train` stripes over them: blocks of 4 MiB through the store that it would take, past the page
/// cache where that is possible. Writes a file of at most 1 GiB in each, which is gone afterwards. Measures once the drives have settled:
/// what a cache takes, or a cloud's credit for bursts, is not what a long run gets. Takes 17 to 29 times `each`.
/// \param each  seconds for reading, writing and both, at each depth
/// \param findings  are added to: a directory in memory, one that is not there, no O_DIRECT, no io_uring
[[nodiscard]] StoreMeasures measure_store(const std::vector<std::string>& directories,
                                          std::chrono::duration<double> each, std::vector<Finding>& findings);

}  // namespace spillway::train
