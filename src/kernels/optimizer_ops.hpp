// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/device.hpp"
#include "kernels/adafactor_ops.hpp"
#include "kernels/optimizer_state.hpp"

namespace spillway::kernels {

/// torch.optim.AdamW's step (decoupled decay first, then moments) over n elements, in fp32 whatever the formats are:
///   g = gradient_scale · gradient;  p = p · (1 - lr · weight_decay)
///   m = m + (1 - beta1) (g - m);  v = beta2 · v + (1 - beta2) · g²
///   p = p - (lr / (1 - beta1^t)) · m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
/// written with explicit fma, correctly rounded sqrt and division in one fixed order (adamw_formula.hpp), so that the scalar, AVX2
/// and AVX-512 forms give the same bits. The moments are rounded to their formats after p has used them.
struct AdamWStep {
  ParameterView parameter;
  StateView exp_avg, exp_avg_sq;  // each in any format
  ConstTensorView gradient;       // f32, bf16 or f16
  double learning_rate = 0.0;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0.0;
  std::int64_t step = 1;        // t, counted from 1
  float gradient_scale = 1.0F;  // clipping and loss scale
  StochasticRounding rounding;  // of moments in bf16: exp_avg at `site`, exp_avg_sq at `site + 1`
};

/// The order of a sum of squares: number i of a block goes to sum i % kSquareLanes of its run of kSquareRun numbers, the sums of a run
/// are added halves first, runs one after the other. Wide enough for a thread of a GPU to read 16 bytes at a time, short enough for many.
inline constexpr std::int64_t kSquareLanes = 64, kSquareRun = 2048;

/// partial_sums[b] = Σ x² over block b of `block` elements (the last may be shorter), in fp64, in that order inside the block.
struct SumOfSquares {
  ConstTensorView x;  // f32, bf16 or f16 (n); 16 bits give what the same numbers in f32 give
  std::int64_t block = 0;
  TensorView partial_sums;  // f64 (ceil(n / block))
};

/// The maths of the optimizer on one extent. Same rules as ModelOps. No result depends on the number of threads.
class OptimizerOps {
 public:
  virtual ~OptimizerOps() = default;
  virtual void adamw(Queue&, const AdamWStep&) = 0;
  virtual void sum_of_squares(Queue&, const SumOfSquares&) = 0;

  virtual void adafactor_sums(Queue&, const AdafactorSums&) = 0;
  virtual void adafactor_factors(Queue&, const AdafactorFactors&) = 0;
  virtual void adafactor_second_moment(Queue&, const AdafactorSecondMoment&) = 0;
  virtual void adafactor_update_sum(Queue&, const AdafactorUpdateSum&) = 0;
  virtual void adafactor_step(Queue&, const AdafactorStep&) = 0;

  virtual void decode_parameter(Queue&, const DecodeParameter&) = 0;
  virtual void encode_parameter(Queue&, const EncodeParameter&) = 0;
  virtual void decode_state(Queue&, const DecodeState&) = 0;
  virtual void encode_state(Queue&, const EncodeState&) = 0;
};

}  // namespace spillway::kernels
