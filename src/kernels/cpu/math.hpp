// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cpu/lanes.hpp"

namespace spillway::kernels::cpu {

namespace detail {

/// Replaces x by e^x. In place, since a function that returns an Octet has another calling convention with AVX.
[[gnu::always_inline]] inline void exponentiate(Octet& x) {
  x = x < -105.0F ? Octet{} - 105.0F : x;  // a NaN passes both comparisons
  x = x > 89.0F ? Octet{} + 89.0F : x;
  // Adding 1.5 · 2^23 rounds to an integer, which is then in the low bits.
  constexpr float kRounding = 12582912.0F;
  const Octet rounded = x * 1.44269504088896341F + kRounding;
  const Octet n = rounded - kRounding;
  const Octet r = (x - n * 0.693359375F) - n * -2.12194440e-4F;
  Octet y = r * 1.9875691500e-4F + 1.3981999507e-3F;
  y = y * r + 8.3334519073e-3F;
  y = y * r + 4.1665795894e-2F;
  y = y * r + 1.6666665459e-1F;
  y = y * r + 5.0000001201e-1F;
  y = y * (r * r) + r + 1.0F;
  // 2^n as the product of two halves, since n = 128 and n < -126 are beyond one float's exponent.
  const IntOctet exponent = reinterpret_cast<IntOctet>(rounded) - 0x4B400000;
  const IntOctet half = exponent >> 1;
  const auto first = reinterpret_cast<Octet>((half + 127) << 23);
  const auto second = reinterpret_cast<Octet>((exponent - half + 127) << 23);
  x = y * first * second;
}

struct Gelu {
  Octet value, slope;
};

/// With z = sqrt(2/π) (x + 0.044715 x³), (1 + tanh z) / 2 is the logistic function s = 1 / (1 + e^(-2z)), and its slope
/// is s (1 - s) = e^(-2z) s², which has no cancellation.
[[gnu::always_inline]] inline Gelu gelu_new(const Octet& x) {
  constexpr float kTwiceSqrt2OverPi = 1.5957691216057308F;
  Octet e = -kTwiceSqrt2OverPi * (x + 0.044715F * (x * x * x));
  e = e > 80.0F ? Octet{} + 80.0F : e;  // keeps its exponential finite: the logistic is then below 2e-35
  exponentiate(e);
  const Octet logistic = 1.0F / (1.0F + e);
  const Octet z_slope_twice = kTwiceSqrt2OverPi * (1.0F + 0.134145F * (x * x));
  return {x * logistic, logistic + x * (e * logistic * logistic) * z_slope_twice};
}

}  // namespace detail

/// e^x in each lane, within 2 ulp where the result is normal (denormal results within 2 of their last places), 0 below
/// -104, infinity above 88.8, NaN for NaN. Reduction by multiples of ln 2 in two parts and Cephes' polynomial for expf,
/// without fma, so that all instruction sets agree.
[[gnu::always_inline]] inline Lanes exp(const Lanes& x) {
  Lanes y = x;
  detail::exponentiate(y.low);
  detail::exponentiate(y.high);
  return y;
}

/// gelu_new(x) = 0.5 x (1 + tanh(sqrt(2/π) (x + 0.044715 x³))), within 3e-7 · max(1, |x|).
[[gnu::always_inline]] inline Lanes gelu_new(const Lanes& x) {
  return {detail::gelu_new(x.low).value, detail::gelu_new(x.high).value};
}

/// d gelu_new / dx, within 2e-6.
[[gnu::always_inline]] inline Lanes gelu_new_slope(const Lanes& x) {
  return {detail::gelu_new(x.low).slope, detail::gelu_new(x.high).slope};
}

}  // namespace spillway::kernels::cpu
