// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "data/sampler.hpp"
#include "train/run_options.hpp"

namespace spillway::train {

/// Whether what is done `every` so often is due after `step` steps, which have left the data at `cursor`: at each multiple of its
/// steps, or where an epoch has just ended. With an interval of 0 steps it never is.
[[nodiscard]] inline bool due(const StepInterval& every, std::int64_t step, const data::Cursor& cursor) {
  if (every.every_epoch) return cursor.position == 0;
  return every.steps > 0 && step % every.steps == 0;
}

}  // namespace spillway::train
