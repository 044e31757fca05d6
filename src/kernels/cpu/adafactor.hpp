// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/adafactor_ops.hpp"
#include "kernels/cpu/instruction_set.hpp"
#include "kernels/cpu/thread_pool.hpp"

namespace spillway::kernels::cpu {

/// \param set  must be supported here; all give the same bits
void adafactor_sums(ThreadPool& pool, const AdafactorSums& op, InstructionSet set = widest_instruction_set());
void adafactor_factors(const AdafactorFactors& op);
void adafactor_second_moment(ThreadPool& pool, const AdafactorSecondMoment& op,
                             InstructionSet set = widest_instruction_set());
void adafactor_update_sum(ThreadPool& pool, const AdafactorUpdateSum& op,
                          InstructionSet set = widest_instruction_set());
void adafactor_step(ThreadPool& pool, const AdafactorStep& op, InstructionSet set = widest_instruction_set());

}  // namespace spillway::kernels::cpu
