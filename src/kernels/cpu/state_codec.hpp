// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cpu/instruction_set.hpp"
#include "kernels/cpu/thread_pool.hpp"
#include "kernels/optimizer_state.hpp"

namespace spillway::kernels::cpu {

/// \param set  must be supported here; all give the same bits
void decode_parameter(ThreadPool& pool, const DecodeParameter& op, InstructionSet set = widest_instruction_set());
void encode_parameter(ThreadPool& pool, const EncodeParameter& op, InstructionSet set = widest_instruction_set());
void decode_state(ThreadPool& pool, const DecodeState& op, InstructionSet set = widest_instruction_set());
void encode_state(ThreadPool& pool, const EncodeState& op, InstructionSet set = widest_instruction_set());

}  // namespace spillway::kernels::cpu
