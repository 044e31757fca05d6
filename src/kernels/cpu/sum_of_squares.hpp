// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cpu/thread_pool.hpp"
#include "kernels/optimizer_ops.hpp"

namespace spillway::kernels::cpu {

/// Inside a block: eight fp64 sums, element i in sum i % 8, then the eight halves first.
void sum_of_squares(ThreadPool& pool, const SumOfSquares& op);

}  // namespace spillway::kernels::cpu
