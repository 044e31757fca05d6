// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include <gtest/gtest.h>

#include "kernels/cpu/instruction_set.hpp"

namespace spillway::kernels::test {

using cpu::InstructionSet;

/// A test of one instruction set, which is skipped where the processor has not got it.
class OnInstructionSet : public testing::TestWithParam<InstructionSet> {
 protected:
  void SetUp() override {
    if (!cpu::supported(GetParam())) GTEST_SKIP() << "this processor has no such instructions";
  }
};

inline std::string name_of_set(const testing::TestParamInfo<InstructionSet>& info) {
  switch (info.param) {
    case InstructionSet::avx512: return "avx512";
    case InstructionSet::avx2: return "avx2";
    case InstructionSet::baseline: break;
  }
  return "baseline";
}

}  // namespace spillway::kernels::test
