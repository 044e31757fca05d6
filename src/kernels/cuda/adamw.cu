// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/cuda/check.hpp"
#include "kernels/cpu/adamw_formula.hpp"
#include "kernels/cuda/adamw.hpp"
#include "kernels/cuda/state_format.cuh"

namespace spillway::kernels::cuda {
namespace {

/// adamw_element() in the GPU's words.
__device__ void update(const AdamWCoefficients& c, float gradient, float& parameter, float& exp_avg,
                       float& exp_avg_sq) {
  const float g = __fmul_rn(c.gradient_scale, gradient);
  const float decayed = __fmul_rn(parameter, c.decay);
  const float m = __fmaf_rn(c.one_minus_beta1, __fsub_rn(g, exp_avg), exp_avg);
  const float v = __fmaf_rn(__fmul_rn(c.one_minus_beta2, g), g, __fmul_rn(c.beta2, exp_avg_sq));
  const float denominator = __fadd_rn(__fdiv_rn(__fsqrt_rn(v), c.root_correction), c.eps);
  parameter = __fmaf_rn(-c.step_size, __fdiv_rn(m, denominator), decayed);
  exp_avg = m;
  exp_avg_sq = v;
}

struct Arguments {
  AdamWCoefficients coefficients;
  Numbers gradient;
  Parameters parameter;
  StateNumbers exp_avg, exp_avg_sq;
  StochasticRounding rounding;
  UnitPlace place;
  std::int64_t elements;
};

/// Two for each of an H200's SMs: enough for most of its bandwidth, and they leave room for the products of the forward pass beside them.
constexpr unsigned kMostBlocks = 264;

__device__ void update_eight(const Arguments& arguments, const Eight& at, WarpDraws& mine) {
  float gradient[kEach], parameter[kEach], exp_avg[kEach], exp_avg_sq[kEach];
  // All of it is asked for before any of it is looked at.
  const RawEight raw_gradient = arguments.gradient.fetch(at);
  const RawParameters raw_parameter = arguments.parameter.fetch(at);
  const RawState raw_exp_avg = arguments.exp_avg.fetch(at), raw_exp_avg_sq = arguments.exp_avg_sq.fetch(at);
  arguments.gradient.widen(raw_gradient, gradient);
  arguments.parameter.widen(raw_parameter, parameter);
  arguments.exp_avg.widen(raw_exp_avg, exp_avg);
  arguments.exp_avg_sq.widen(raw_exp_avg_sq, exp_avg_sq);
  for (int i = 0; i < kEach; ++i) update(arguments.coefficients, gradient[i], parameter[i], exp_avg[i], exp_avg_sq[i]);
  arguments.parameter.write(at, parameter);
  const std::int64_t warp_first = arguments.place.warp_first(at);
  StochasticRounding rounding = arguments.rounding;
  arguments.exp_avg.write(at, exp_avg, rounding, warp_first, mine);
  rounding.site += 1;
  arguments.exp_avg_sq.write(at, exp_avg_sq, rounding, warp_first, mine);
}

__global__ void __launch_bounds__(32 * kEightWarps) adamw_kernel(const Arguments arguments, unsigned blocks) {
  __shared__ WarpDraws draws[kEightWarps];
  for (unsigned block = blockIdx.x; block < blocks; block += gridDim.x) {
    const std::int64_t thread = std::int64_t{block} * blockDim.x + threadIdx.x;
    update_eight(arguments, Eight::of_thread(thread, arguments.place.offset, arguments.elements),
                 draws[threadIdx.x / 32]);
  }
}

}  // namespace

void adamw(cudaStream_t stream, const AdamWStep& step, const StateCodeTables* codes) {
  const std::int64_t elements = step.parameter.elements();
  if (elements == 0) return;
  const bool rounds = step.exp_avg.values.dtype() == DType::bf16 || step.exp_avg_sq.values.dtype() == DType::bf16;
  const Arguments arguments{.coefficients = AdamWCoefficients::of(step),
                            .gradient = Numbers::of(step.gradient),
                            .parameter = Parameters::of(step.parameter),
                            .exp_avg = StateNumbers::of(step.exp_avg, codes, StateSign::either),
                            .exp_avg_sq = StateNumbers::of(step.exp_avg_sq, codes, StateSign::nonnegative),
                            .rounding = step.rounding,
                            .place = UnitPlace::of(step.rounding, rounds),
                            .elements = elements};
  const unsigned blocks = eight_blocks(arguments.place.offset, elements);
  adamw_kernel<<<std::min(blocks, kMostBlocks), 32 * kEightWarps, 0, stream>>>(arguments, blocks);
  spillway::cuda::check(cudaGetLastError(), "adamw");
}

}  // namespace spillway::kernels::cuda
