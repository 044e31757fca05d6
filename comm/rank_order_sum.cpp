// SPDX-License-Identifier: Apache-2.0
#include "comm/rank_order_sum.hpp"

#include <algorithm>
#include <array>
#include <cstdint>

namespace spillway::comm {
namespace {

constexpr std::size_t kBlock = 2048;  // elements: the partial sums stay in the first-level cache

template <typename Add>
void for_each_value(const std::byte* piece, DType wire, std::size_t begin, std::size_t count, Add add) {
  if (wire == DType::f32) {
    const auto* values = reinterpret_cast<const float*>(piece) + begin;
    for (std::size_t i = 0; i < count; ++i) add(i, values[i]);
    return;
  }
  const auto* bits = reinterpret_cast<const std::uint16_t*>(piece) + begin;
  if (wire == DType::bf16) {
    for (std::size_t i = 0; i < count; ++i) add(i, float_from_bf16(bits[i]));
  } else {
    for (std::size_t i = 0; i < count; ++i) add(i, float_from_f16(bits[i]));
  }
}

void store(const float* sums, TensorView target, std::size_t begin, std::size_t count) {
  if (target.dtype() == DType::f32) {
    std::copy_n(sums, count, reinterpret_cast<float*>(target.data()) + begin);
    return;
  }
  auto* bits = reinterpret_cast<std::uint16_t*>(target.data()) + begin;
  if (target.dtype() == DType::bf16) {
    std::transform(sums, sums + count, bits, bf16_from_float);
  } else {
    std::transform(sums, sums + count, bits, f16_from_float);
  }
}

}  // namespace

void sum_in_rank_order(std::span<const std::byte* const> pieces, DType wire, TensorView target) {
  std::array<float, kBlock> sums;
  const auto elements = static_cast<std::size_t>(target.elements());
  for (std::size_t begin = 0; begin < elements; begin += kBlock) {
    const std::size_t count = std::min(kBlock, elements - begin);
    // The first piece is stored, not added to zero: -0 stays -0.
    for_each_value(pieces[0], wire, begin, count, [&](std::size_t i, float value) { sums[i] = value; });
    for (const std::byte* piece : pieces.subspan(1))
      for_each_value(piece, wire, begin, count, [&](std::size_t i, float value) { sums[i] += value; });
    store(sums.data(), target, begin, count);
  }
}

}  // namespace spillway::comm
