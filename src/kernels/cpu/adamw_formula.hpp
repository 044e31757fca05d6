// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>

#include "kernels/optimizer_ops.hpp"

namespace spillway::kernels {

/// What is the same for every element of a step, computed in fp64 and rounded once.
struct AdamWCoefficients {
  float gradient_scale;
  float decay;  // 1 - lr · weight_decay
  float one_minus_beta1;
  float beta2;
  float one_minus_beta2;
  float step_size;        // lr / (1 - beta1^t)
  float root_correction;  // sqrt(1 - beta2^t)
  float eps;

  [[nodiscard]] static AdamWCoefficients of(const AdamWStep& step) {
    const auto t = static_cast<double>(step.step);
    return {.gradient_scale = step.gradient_scale,
            .decay = static_cast<float>(1.0 - step.learning_rate * step.weight_decay),
            .one_minus_beta1 = static_cast<float>(1.0 - step.beta1),
            .beta2 = static_cast<float>(step.beta2),
            .one_minus_beta2 = static_cast<float>(1.0 - step.beta2),
            .step_size = static_cast<float>(step.learning_rate / (1.0 - std::pow(step.beta1, t))),
            .root_correction = static_cast<float>(std::sqrt(1.0 - std::pow(step.beta2, t))),
            .eps = static_cast<float>(step.eps)};
  }
};

/// One element of AdamW, in place. The order, its three fma and the correctly rounded square root and divisions are
/// the definition: every instruction set and device has them, so all give the same bits. To be compiled without
/// contraction.
[[gnu::always_inline]] inline void adamw_element(const AdamWCoefficients& c, float gradient, float& parameter,
                                                 float& exp_avg, float& exp_avg_sq) {
  const float g = c.gradient_scale * gradient;
  const float decayed = parameter * c.decay;
  const float m = std::fma(c.one_minus_beta1, g - exp_avg, exp_avg);
  const float v = std::fma(c.one_minus_beta2 * g, g, c.beta2 * exp_avg_sq);
  const float denominator = std::sqrt(v) / c.root_correction + c.eps;
  parameter = std::fma(-c.step_size, m / denominator, decayed);
  exp_avg = m;
  exp_avg_sq = v;
}

}  // namespace spillway::kernels
