// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/adamw.hpp"

#include "kernels/cpu/adamw_formula.hpp"
#include "kernels/cpu/rows.hpp"

namespace spillway::kernels::cpu {
namespace {

constexpr std::int64_t kBlock = 16384;  // four arrays of 64 KiB

/// The loop is plain on purpose: compiled for each instruction set it becomes vectors of that width, remainder
/// included.
[[gnu::always_inline]] inline void update(const AdamWCoefficients& coefficients, const float* __restrict gradient,
                                          float* __restrict parameter, float* __restrict exp_avg,
                                          float* __restrict exp_avg_sq, std::int64_t count) {
  const AdamWCoefficients c = coefficients;
  for (std::int64_t i = 0; i < count; ++i) adamw_element(c, gradient[i], parameter[i], exp_avg[i], exp_avg_sq[i]);
}

}  // namespace

void adamw(ThreadPool& pool, const AdamWStep& step, InstructionSet set) {
  const AdamWCoefficients coefficients = AdamWCoefficients::of(step);
  parallel_blocks(pool, step.parameter.elements(), kBlock, [&](std::int64_t begin, std::int64_t end) {
    vectorised_for<update>(set, coefficients, floats(step.gradient) + begin, floats(step.parameter) + begin,
                           floats(step.exp_avg) + begin, floats(step.exp_avg_sq) + begin, end - begin);
  });
}

}  // namespace spillway::kernels::cpu
