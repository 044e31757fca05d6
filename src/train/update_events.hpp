// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "core/device.hpp"

namespace spillway::train {

/// When the work of two queues is over.
[[nodiscard]] Event both(Event one, Event other);

/// When what the optimizer's thread was given is over, and then the copies that it left behind.
/// \param copies  written before `work` is over
[[nodiscard]] Event with_copies(Event work, std::shared_ptr<const Event> copies);

/// Of an update that nothing was given yet: whoever waits for it has not asked for its start. \throws Error
[[nodiscard]] Event not_started(int unit);

}  // namespace spillway::train
