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

}  // namespace spillway::kernels::cpu
