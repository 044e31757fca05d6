// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/lanes.hpp"

#include <bit>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/cpu/instruction_set.hpp"

namespace spillway::kernels::cpu {
namespace {

[[gnu::always_inline]] inline void narrow_all(const float* from, BFloat16* to, std::int64_t count) {
  for (std::int64_t i = 0; i < count; i += kLanes) store(to + i, load(from + i, count - i), count - i);
}

[[gnu::always_inline]] inline void widen_all(const BFloat16* from, float* to, std::int64_t count) {
  for (std::int64_t i = 0; i < count; i += kLanes) store(to + i, load(from + i, count - i), count - i);
}

std::vector<InstructionSet> instruction_sets() {
  std::vector<InstructionSet> sets{InstructionSet::baseline};
  for (const InstructionSet set : {InstructionSet::avx2, InstructionSet::avx512})
    if (supported(set)) sets.push_back(set);
  return sets;
}

TEST(BFloat16Lanes, Store_RoundsLikeTheScalar_OnEveryInstructionSet) {
  std::vector<float> x;
  for (std::uint32_t upper = 0; upper < 0x10000U; ++upper)  // each number, the ends of its interval and its middle
    for (const std::uint32_t lower : {0U, 1U, 0x7fffU, 0x8000U, 0x8001U, 0xffffU})
      x.push_back(std::bit_cast<float>((upper << 16) | lower));
  x.resize(x.size() - 3);  // the last lanes are not full

  for (const InstructionSet set : instruction_sets()) {
    std::vector<BFloat16> y(x.size() + 1, BFloat16{0x1234});
    vectorised_for<narrow_all>(set, x.data(), y.data(), static_cast<std::int64_t>(x.size()));

    for (std::size_t i = 0; i < x.size(); ++i)
      ASSERT_EQ(y[i].bits, bf16_from_float(x[i])) << std::hex << std::bit_cast<std::uint32_t>(x[i]);
    EXPECT_EQ(y.back().bits, 0x1234) << "beyond the count nothing is written";
  }
}

TEST(BFloat16Lanes, Load_WidensExactly_OnEveryInstructionSet) {
  std::vector<BFloat16> x;
  for (std::uint32_t bits = 0; bits < 0x10000U - 3; ++bits) x.push_back({static_cast<std::uint16_t>(bits)});

  for (const InstructionSet set : instruction_sets()) {
    std::vector<float> y(x.size());
    vectorised_for<widen_all>(set, x.data(), y.data(), static_cast<std::int64_t>(x.size()));

    for (std::size_t i = 0; i < x.size(); ++i)
      ASSERT_EQ(std::bit_cast<std::uint32_t>(y[i]), static_cast<std::uint32_t>(x[i].bits) << 16);
  }
}

}  // namespace
}  // namespace spillway::kernels::cpu
