// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/adamw.hpp"

#include "kernels/cpu/adamw_formula.hpp"
#include "kernels/cpu/rows.hpp"
#include "kernels/cpu/state_format.hpp"

namespace spillway::kernels::cpu {
namespace {

constexpr std::int64_t kBlock = 16384;  // four arrays of 64 KiB
static_assert(kBlock % kTile == 0);

constexpr std::int64_t kLine = 16;            // elements of a cache line
constexpr std::int64_t kPrefetchAhead = 512;  // elements: 2 KiB of each array

/// The inner loops are plain on purpose: compiled for each instruction set they become vectors of that width. Four streams and the
/// slow division leave the processor's own prefetching too little ahead, so it is told. (Stores past the cache were half as fast:
/// every line that is written has just been read.)
[[gnu::always_inline]] inline void update(const AdamWCoefficients& coefficients, const float* __restrict gradient,
                                          float* __restrict parameter, float* __restrict exp_avg,
                                          float* __restrict exp_avg_sq, std::int64_t count) {
  const AdamWCoefficients c = coefficients;
  std::int64_t i = 0;
  for (; i + kLine <= count; i += kLine) {
    __builtin_prefetch(gradient + i + kPrefetchAhead);
    __builtin_prefetch(parameter + i + kPrefetchAhead);
    __builtin_prefetch(exp_avg + i + kPrefetchAhead);
    __builtin_prefetch(exp_avg_sq + i + kPrefetchAhead);
    for (std::int64_t j = i; j < i + kLine; ++j) adamw_element(c, gradient[j], parameter[j], exp_avg[j], exp_avg_sq[j]);
  }
  for (; i < count; ++i) adamw_element(c, gradient[i], parameter[i], exp_avg[i], exp_avg_sq[i]);
}

/// Elements [begin, end), of which those that are not f32 pass through tiles.
[[gnu::always_inline]] inline void update_tiles(const AdamWCoefficients& coefficients, const AdamWStep& step,
                                                std::int64_t begin, std::int64_t end) {
  alignas(64) float tiles[4][kTile];
  const DynamicCodes& signed_codes = dynamic_codes(StateSign::either);
  const DynamicCodes& unsigned_codes = dynamic_codes(StateSign::nonnegative);
  StochasticRounding second_rounding = step.rounding;
  second_rounding.site += 1;
  for (; begin < end; begin += kTile) {
    const std::int64_t count = std::min(kTile, end - begin);
    const float* gradient = read_tile(step.gradient, begin, count, tiles[0]);
    float* parameter = read_tile(step.parameter, begin, count, tiles[1]);
    float* exp_avg = read_tile(step.exp_avg, signed_codes, begin, count, tiles[2]);
    float* exp_avg_sq = read_tile(step.exp_avg_sq, unsigned_codes, begin, count, tiles[3]);
    update(coefficients, gradient, parameter, exp_avg, exp_avg_sq, count);
    write_tile(step.parameter, begin, count, parameter);
    write_tile(step.exp_avg, signed_codes, begin, count, exp_avg, step.rounding);
    write_tile(step.exp_avg_sq, unsigned_codes, begin, count, exp_avg_sq, second_rounding);
  }
}

}  // namespace

void adamw(ThreadPool& pool, const AdamWStep& step, InstructionSet set) {
  const AdamWCoefficients coefficients = AdamWCoefficients::of(step);
  const bool plain = !step.parameter.master && step.gradient.dtype() == DType::f32 &&
                     step.exp_avg.values.dtype() == DType::f32 && step.exp_avg_sq.values.dtype() == DType::f32;
  parallel_blocks(pool, step.parameter.elements(), kBlock, [&](std::int64_t begin, std::int64_t end) {
    if (!plain) return vectorised_for<update_tiles>(set, coefficients, step, begin, end);
    vectorised_for<update>(set, coefficients, floats(step.gradient) + begin, floats(step.parameter.weight) + begin,
                           floats(step.exp_avg.values) + begin, floats(step.exp_avg_sq.values) + begin, end - begin);
  });
}

}  // namespace spillway::kernels::cpu
