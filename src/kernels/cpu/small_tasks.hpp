// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/thread_pool.hpp"

namespace spillway::kernels::cpu {

/// pool.parallel_for over tasks of about `work` multiplications each; small ones go several to a pool task, whose own
/// cost is that of a lock.
template <typename Task>
void parallel_for_small(ThreadPool& pool, std::int64_t count, std::int64_t work, const Task& task) {
  constexpr std::int64_t kWorthATask = 200'000;
  const std::int64_t grain = std::max<std::int64_t>(1, kWorthATask / std::max<std::int64_t>(1, work));
  pool.parallel_for((count + grain - 1) / grain, [&](std::int64_t group) {
    const std::int64_t end = std::min(count, (group + 1) * grain);
    for (std::int64_t i = group * grain; i < end; ++i) task(i);
  });
}

}  // namespace spillway::kernels::cpu
