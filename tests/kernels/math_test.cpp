// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/math.hpp"

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/cpu/instruction_set.hpp"
#include "kernels/instruction_set_fixture.hpp"

namespace spillway::kernels::cpu {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

[[gnu::always_inline]] inline void exp_all(const float* x, float* y, std::int64_t count) {
  for (std::int64_t i = 0; i < count; i += kLanes) store(y + i, exp(load(x + i, count - i)), count - i);
}

std::vector<float> exp_with(InstructionSet set, const std::vector<float>& x) {
  std::vector<float> y(x.size());
  vectorised_for<exp_all>(set, x.data(), y.data(), static_cast<std::int64_t>(x.size()));
  return y;
}

std::vector<float> steps(float from, float to, int count) {
  std::vector<float> x;
  for (int i = 0; i <= count; ++i)
    x.push_back(from + (to - from) * (static_cast<float>(i) / static_cast<float>(count)));
  return x;
}

TEST(Exp, OverItsWholeRange_IsWithinTwoUlp) {
  const std::vector<float> x = steps(-104.0F, 88.7F, 400003);

  const std::vector<float> y = exp_with(widest_instruction_set(), x);

  double worst = 0.0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double exact = std::exp(static_cast<double>(x[i]));
    const auto rounded = static_cast<float>(exact);
    const double ulp = static_cast<double>(std::nextafter(rounded, kInfinity)) - static_cast<double>(rounded);
    worst = std::max(worst, std::abs(static_cast<double>(y[i]) - exact) / ulp);
  }
  EXPECT_LE(worst, 2.0);
}

TEST(Exp, AtSpecialValues_IsWhatTheStandardSays) {
  const std::vector<float> y =
      exp_with(InstructionSet::baseline, {0.0F, -0.0F, kInfinity, -kInfinity, 1000.0F, 88.8F, -200.0F, NAN});

  EXPECT_EQ(y[0], 1.0F);
  EXPECT_EQ(y[1], 1.0F);
  EXPECT_EQ(y[2], kInfinity);
  EXPECT_EQ(y[3], 0.0F);
  EXPECT_EQ(y[4], kInfinity);
  EXPECT_EQ(y[5], kInfinity);
  EXPECT_EQ(y[6], 0.0F);
  EXPECT_TRUE(std::isnan(y[7]));
}

class ExpOnInstructionSet : public test::OnInstructionSet {};
INSTANTIATE_TEST_SUITE_P(Wide, ExpOnInstructionSet, testing::Values(InstructionSet::avx2, InstructionSet::avx512),
                         test::name_of_set);

TEST_P(ExpOnInstructionSet, GivesTheBaselinesBits) {
  const std::vector<float> x = steps(-110.0F, 95.0F, 10007);
  const std::vector<float> baseline = exp_with(InstructionSet::baseline, x);

  const std::vector<float> y = exp_with(GetParam(), x);

  EXPECT_EQ(std::memcmp(y.data(), baseline.data(), y.size() * sizeof(float)), 0);
}

}  // namespace
}  // namespace spillway::kernels::cpu
