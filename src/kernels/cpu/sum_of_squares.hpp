// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cpu/instruction_set.hpp"
#include "kernels/cpu/thread_pool.hpp"
#include "kernels/optimizer_ops.hpp"

namespace spillway::kernels::cpu {

/// Inside a block: as kSquareLanes says.
/// \param set  must be supported here; all give the same bits
void sum_of_squares(ThreadPool& pool, const SumOfSquares& op, InstructionSet set = widest_instruction_set());

}  // namespace spillway::kernels::cpu
