// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/instruction_set.hpp"

namespace spillway::kernels::cpu {

bool supported(InstructionSet set) noexcept {
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  switch (set) {
    case InstructionSet::avx512:
      return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    case InstructionSet::avx2: return avx2;
    case InstructionSet::baseline: return true;
  }
  return false;
}

InstructionSet widest_instruction_set() noexcept {
  static const InstructionSet widest = supported(InstructionSet::avx512) ? InstructionSet::avx512
                                       : supported(InstructionSet::avx2) ? InstructionSet::avx2
                                                                         : InstructionSet::baseline;
  return widest;
}

}  // namespace spillway::kernels::cpu
