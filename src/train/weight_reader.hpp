// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <initializer_list>

#include "core/device.hpp"
#include "core/tensor_view.hpp"

namespace spillway::train {

/// Brings a unit's weights from where they rest to a place where they are used.
class WeightReader {
 public:
  virtual ~WeightReader() = default;
  /// Starts to read what this rank owns of a unit into `to`, after all of `after`. Does not block.
  [[nodiscard]] virtual Event read(std::initializer_list<Event> after, int unit, TensorView to) = 0;
  /// Whether a thread does it: then its event may rethrow IoError, and a GPU's queue that waits for it blocks the caller.
  [[nodiscard]] virtual bool on_thread(int unit) const = 0;
};

}  // namespace spillway::train
