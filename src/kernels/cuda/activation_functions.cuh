// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/model_ops.hpp"

namespace spillway::kernels::cuda {

// The functions of ActivationKind (model_ops.hpp has their formulas) and their slopes; what a caller does not use is not computed.

struct ValueAndSlope {
  float value, slope;
};

namespace detail {

/// 1 / (1 + e^-x) as the value; its slope e^-x / (1 + e^-x)² has no cancellation.
__device__ inline ValueAndSlope logistic(float x) {
  float e = -x;
  e = expf(e > 80.0F ? 80.0F : e);                 // keeps it finite: the logistic is then below 2e-35. NaN stays NaN
  const float value = __fdividef(1.0F, 1.0F + e);  // two units in the last place, for a fraction of the instructions
  return {value, e * value * value};
}

}  // namespace detail

struct Relu {
  __device__ static ValueAndSlope at(float x) {
    return {x < 0.0F ? 0.0F : x, x > 0.0F ? 1.0F : 0.0F};  // NaN stays NaN
  }
};

struct ReluSquared {
  __device__ static ValueAndSlope at(float x) {
    const float positive = x < 0.0F ? 0.0F : x;
    return {positive * positive, 2.0F * positive};
  }
};

struct Gelu {
  __device__ static ValueAndSlope at(float x) {
    const float distribution = 0.5F * erfcf(x * -0.707106781F);
    const float density = expf(-0.5F * (x * x)) * 0.398942280F;
    return {x * distribution, distribution + x * density};
  }
};

/// With z = sqrt(2/π) (x + 0.044715 x³), (1 + tanh z) / 2 is the logistic function of 2z.
struct GeluNew {
  __device__ static ValueAndSlope at(float x) {
    constexpr float kTwiceSqrt2OverPi = 1.5957691216057308F;
    const ValueAndSlope logistic = detail::logistic(kTwiceSqrt2OverPi * (x + 0.044715F * (x * x * x)));
    const float z_slope_twice = kTwiceSqrt2OverPi * (1.0F + 0.134145F * (x * x));
    return {x * logistic.value, logistic.value + x * logistic.slope * z_slope_twice};
  }
};

struct QuickGelu {
  __device__ static ValueAndSlope at(float x) {
    const ValueAndSlope logistic = detail::logistic(1.702F * x);
    return {x * logistic.value, logistic.value + 1.702F * (x * logistic.slope)};
  }
};

struct Silu {
  __device__ static ValueAndSlope at(float x) {
    const ValueAndSlope logistic = detail::logistic(x);
    return {x * logistic.value, logistic.value + x * logistic.slope};
  }
};

struct Sigmoid {
  __device__ static ValueAndSlope at(float x) { return detail::logistic(x); }
};

struct Tanh {
  __device__ static ValueAndSlope at(float x) { return {tanhf(x), 4.0F * detail::logistic(x + x).slope}; }
};

/// With e = e^x, tanh(ln(1 + e)) is (e² + 2e) / (e² + 2e + 2), and its slope 4 e (1 + e) / (e² + 2e + 2)². Above 20 it is 1.
struct Mish {
  __device__ static ValueAndSlope at(float x) {
    const float e = expf(x > 20.0F ? 20.0F : x);
    const float n = e * (e + 2.0F);
    const float inverse = 1.0F / (n + 2.0F);
    const float tangent = n * inverse;
    return {x * tangent, tangent + x * (4.0F * (e * inverse) * ((1.0F + e) * inverse))};
  }
};

/// Calls task(Function()) on the host.
template <typename Task>
void visit_function(ActivationKind kind, const Task& task) {
  switch (kind) {
    case ActivationKind::relu: return task(Relu());
    case ActivationKind::relu_squared: return task(ReluSquared());
    case ActivationKind::gelu: return task(Gelu());
    case ActivationKind::gelu_new: return task(GeluNew());
    case ActivationKind::quick_gelu: return task(QuickGelu());
    case ActivationKind::silu: return task(Silu());
    case ActivationKind::sigmoid: return task(Sigmoid());
    case ActivationKind::tanh: return task(Tanh());
    case ActivationKind::mish: return task(Mish());
  }
}

}  // namespace spillway::kernels::cuda
