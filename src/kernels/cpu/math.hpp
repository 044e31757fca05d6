// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cpu/lanes.hpp"

namespace spillway::kernels::cpu {

/// e^x in each lane, within 2 ulp where the result is normal (denormal results within 2 of their last places), 0 below -104,
/// infinity above 88.8, NaN for NaN. Reduction by multiples of ln 2 in two parts and a polynomial of degree 7 (the coefficients of
/// Cephes' expf), without fma, so that all instruction sets agree.
[[gnu::always_inline]] inline Lanes exp(Lanes x) {
  x = x < -105.0F ? all_lanes(-105.0F) : x;  // a NaN passes both comparisons
  x = x > 89.0F ? all_lanes(89.0F) : x;
  // Adding 1.5 · 2^23 rounds to an integer, which is then in the low bits.
  constexpr float kRounding = 12582912.0F;
  const Lanes rounded = x * 1.44269504088896341F + kRounding;
  const Lanes n = rounded - kRounding;
  const Lanes r = (x - n * 0.693359375F) - n * -2.12194440e-4F;
  Lanes y = r * 1.9875691500e-4F + 1.3981999507e-3F;
  y = y * r + 8.3334519073e-3F;
  y = y * r + 4.1665795894e-2F;
  y = y * r + 1.6666665459e-1F;
  y = y * r + 5.0000001201e-1F;
  y = y * (r * r) + r + 1.0F;
  // 2^n as the product of two halves, since n = 128 and n < -126 are beyond one float's exponent.
  const IntLanes exponent = reinterpret_cast<IntLanes>(rounded) - 0x4B400000;
  const IntLanes half = exponent >> 1;
  const Lanes first = reinterpret_cast<Lanes>((half + 127) << 23);
  const Lanes second = reinterpret_cast<Lanes>((exponent - half + 127) << 23);
  return y * first * second;
}

/// What gelu_new and its slope are made of: with z = sqrt(2/π) (x + 0.044715 x³), (1 + tanh z) / 2 is the logistic function of 2z.
struct GeluParts {
  Lanes logistic;        // s = 1 / (1 + e^(-2z))
  Lanes logistic_slope;  // s (1 - s) = e^(-2z) s², without the cancellation of 1 - s
};

[[gnu::always_inline]] inline GeluParts gelu_parts(const Lanes& x) {
  constexpr float kTwiceSqrt2OverPi = 1.5957691216057308F;
  Lanes power = -kTwiceSqrt2OverPi * (x + 0.044715F * (x * x * x));
  power = power > 80.0F ? all_lanes(80.0F) : power;  // keeps e^power finite: the logistic is then below 2e-35
  const Lanes e = exp(power);
  const Lanes logistic = 1.0F / (1.0F + e);
  return {logistic, e * logistic * logistic};
}

/// gelu_new(x) = 0.5 x (1 + tanh(z)).
[[gnu::always_inline]] inline Lanes gelu_new(const Lanes& x) { return x * gelu_parts(x).logistic; }

/// d gelu_new / dx.
[[gnu::always_inline]] inline Lanes gelu_new_slope(const Lanes& x) {
  constexpr float kTwiceSqrt2OverPi = 1.5957691216057308F;
  const GeluParts parts = gelu_parts(x);
  return parts.logistic + x * parts.logistic_slope * (kTwiceSqrt2OverPi * (1.0F + 0.134145F * (x * x)));
}

}  // namespace spillway::kernels::cpu
