// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cpu/lanes.hpp"
#include "kernels/cpu/math.hpp"

namespace spillway::kernels::cpu {

// The functions of ActivationKind (model_ops.hpp has their formulas) and their slopes. Inside a struct, since a function that
// returns an Octet has another calling convention with AVX; what a caller does not use is not computed.

struct ValueAndSlope {
  Octet value, slope;
};

namespace detail {

/// 1 / (1 + e^-x) as the value; its slope e^-x / (1 + e^-x)² has no cancellation.
[[gnu::always_inline]] inline ValueAndSlope logistic(const Octet& x) {
  Octet e = -x;
  e = e > 80.0F ? Octet{} + 80.0F : e;  // keeps its exponential finite: the logistic is then below 2e-35
  exponentiate(e);
  const Octet value = 1.0F / (1.0F + e);
  return {value, e * value * value};
}

/// Near 0 Cephes' polynomial for tanhf, elsewhere by the logistic function.
[[gnu::always_inline]] inline ValueAndSlope hyperbolic_tangent(const Octet& x) {
  const Octet square = x * x;
  Octet series = square * -5.70498872745e-3F + 2.06390887954e-2F;
  series = series * square - 5.37397155531e-2F;
  series = series * square + 1.33314422036e-1F;
  series = series * square - 3.33332819422e-1F;
  const Octet near = x + x * square * series;
  const ValueAndSlope twice = logistic(x + x);
  const Octet far = twice.value - (1.0F - twice.value);
  return {square < 0.390625F ? near : far, 4.0F * twice.slope};
}

/// The normal distribution's Φ(x) as the value and its density as the slope. Φ = erfc(-x / √2) / 2 by Abramowitz and Stegun,
/// 7.1.26, within 1e-7.
[[gnu::always_inline]] inline ValueAndSlope normal_distribution(const Octet& x) {
  const Octet size = x < 0.0F ? -x : x;
  Octet e = -0.5F * (x * x);
  exponentiate(e);
  const Octet t = 1.0F / (1.0F + 0.23164190F * size);
  Octet series = t * 1.061405429F - 1.453152027F;
  series = series * t + 1.421413741F;
  series = series * t - 0.284496736F;
  series = series * t + 0.254829592F;
  const Octet tail = 0.5F * (series * t * e);
  return {x < 0.0F ? tail : 1.0F - tail, e * 0.398942280F};
}

}  // namespace detail

struct Relu {
  [[gnu::always_inline]] static ValueAndSlope at(const Octet& x) {
    return {x < 0.0F ? Octet{} : x, x > 0.0F ? Octet{} + 1.0F : Octet{}};  // NaN stays NaN
  }
};

struct ReluSquared {
  [[gnu::always_inline]] static ValueAndSlope at(const Octet& x) {
    const Octet positive = x < 0.0F ? Octet{} : x;
    return {positive * positive, 2.0F * positive};
  }
};

struct Gelu {
  [[gnu::always_inline]] static ValueAndSlope at(const Octet& x) {
    const ValueAndSlope normal = detail::normal_distribution(x);
    return {x * normal.value, normal.value + x * normal.slope};
  }
};

/// With z = sqrt(2/π) (x + 0.044715 x³), (1 + tanh z) / 2 is the logistic function of 2z.
struct GeluNew {
  [[gnu::always_inline]] static ValueAndSlope at(const Octet& x) {
    constexpr float kTwiceSqrt2OverPi = 1.5957691216057308F;
    const ValueAndSlope logistic = detail::logistic(kTwiceSqrt2OverPi * (x + 0.044715F * (x * x * x)));
    const Octet z_slope_twice = kTwiceSqrt2OverPi * (1.0F + 0.134145F * (x * x));
    return {x * logistic.value, logistic.value + x * logistic.slope * z_slope_twice};
  }
};

struct QuickGelu {
  [[gnu::always_inline]] static ValueAndSlope at(const Octet& x) {
    const ValueAndSlope logistic = detail::logistic(1.702F * x);
    return {x * logistic.value, logistic.value + 1.702F * (x * logistic.slope)};
  }
};

struct Silu {
  [[gnu::always_inline]] static ValueAndSlope at(const Octet& x) {
    const ValueAndSlope logistic = detail::logistic(x);
    return {x * logistic.value, logistic.value + x * logistic.slope};
  }
};

struct Sigmoid {
  [[gnu::always_inline]] static ValueAndSlope at(const Octet& x) { return detail::logistic(x); }
};

struct Tanh {
  [[gnu::always_inline]] static ValueAndSlope at(const Octet& x) { return detail::hyperbolic_tangent(x); }
};

/// With e = e^x, tanh(ln(1 + e)) is (e² + 2e) / (e² + 2e + 2), and its slope 4 e (1 + e) / (e² + 2e + 2)². Above 20 it is 1.
struct Mish {
  [[gnu::always_inline]] static ValueAndSlope at(const Octet& x) {
    Octet e = x > 20.0F ? Octet{} + 20.0F : x;
    detail::exponentiate(e);
    const Octet n = e * (e + 2.0F);
    const Octet inverse = 1.0F / (n + 2.0F);
    const Octet tangent = n * inverse;
    return {x * tangent, tangent + x * (4.0F * (e * inverse) * ((1.0F + e) * inverse))};
  }
};

/// Sixteen at a time.
template <typename Function>
[[gnu::always_inline]] inline Lanes value_of(const Lanes& x) {
  return {Function::at(x.low).value, Function::at(x.high).value};
}
template <typename Function>
[[gnu::always_inline]] inline Lanes slope_of(const Lanes& x) {
  return {Function::at(x.low).slope, Function::at(x.high).slope};
}

}  // namespace spillway::kernels::cpu
