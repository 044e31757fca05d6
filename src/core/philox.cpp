// SPDX-License-Identifier: Apache-2.0
#include "core/philox.hpp"

#include <cmath>
#include <numbers>

namespace spillway {

std::uint32_t PhiloxStream::next() {
  const std::uint64_t block = next_ / 4;
  if (block != block_) {
    draws_ = Philox::draw(key_, {static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32),
                                 static_cast<std::uint32_t>(stream_), static_cast<std::uint32_t>(stream_ >> 32)});
    block_ = block;
  }
  return draws_[next_++ % 4];
}

std::uint64_t PhiloxStream::below(std::uint64_t bound) {
  const std::uint64_t limit = ~std::uint64_t{0} - (~std::uint64_t{0} % bound + 1) % bound;
  for (;;) {
    const std::uint64_t high = next();
    const std::uint64_t value = (high << 32) | next();
    if (value <= limit) return value % bound;
  }
}

float PhiloxStream::normal() {
  const double u = (static_cast<double>(next()) + 1.0) * 0x1p-32;
  const double v = static_cast<double>(next()) * 0x1p-32;
  return static_cast<float>(std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v));
}

}  // namespace spillway
