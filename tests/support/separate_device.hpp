// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "core/device.hpp"

namespace spillway::test {

/// A device that says its memory is not the host's, and whose compute queues run later, each on a thread of its own, as a GPU's do: what
/// training does beside a GPU, without one. Its memory is the host's after all, so the CPU's ops can play the GPU's.
[[nodiscard]] std::unique_ptr<Device> make_separate_device();

}  // namespace spillway::test
