// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/device.hpp"
#include "core/tensor_view.hpp"

namespace spillway::kernels {

/// torch.optim.AdamW's step (decoupled decay first, then moments) over n elements, all fp32:
///   g = gradient_scale · gradient;  p = p · (1 - lr · weight_decay)
///   m = m + (1 - beta1) (g - m);  v = beta2 · v + (1 - beta2) · g²
///   p = p - (lr / (1 - beta1^t)) · m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
/// written with explicit fma, correctly rounded sqrt and division in one fixed order (adamw_formula.hpp), so that the scalar, AVX2
/// and AVX-512 forms give the same bits.
struct AdamWStep {
  TensorView parameter, exp_avg, exp_avg_sq;
  ConstTensorView gradient;
  double learning_rate = 0.0;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0.0;
  std::int64_t step = 1;        // t, counted from 1
  float gradient_scale = 1.0F;  // clipping and loss scale
};

/// partial_sums[b] = Σ x² over block b of `block` elements (the last may be shorter), in fp64, in a fixed order inside the block.
struct SumOfSquares {
  ConstTensorView x;  // f32 (n)
  std::int64_t block = 0;
  TensorView partial_sums;  // f64 (ceil(n / block))
};

/// The maths of the optimizer on one extent. Same rules as ModelOps.
class OptimizerOps {
 public:
  virtual ~OptimizerOps() = default;
  virtual void adamw(Queue&, const AdamWStep&) = 0;
  virtual void sum_of_squares(Queue&, const SumOfSquares&) = 0;
};

}  // namespace spillway::kernels
