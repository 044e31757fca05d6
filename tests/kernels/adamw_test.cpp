// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/adamw.hpp"

#include <cmath>
#include <cstring>
#include <limits>

#include <gtest/gtest.h>

#include "kernels/cpu/adamw_formula.hpp"
#include "kernels/instruction_set_fixture.hpp"
#include "kernels/kernel_fixtures.hpp"

namespace spillway::kernels::cpu {
namespace {

using test::Matrix;

struct State {
  explicit State(std::int64_t count)
      : parameter(Matrix::random(1, count, 1)),
        exp_avg(Matrix::random(1, count, 2)),
        exp_avg_sq(Matrix::random(1, count, 3)),
        gradient(Matrix::random(1, count, 4)) {
    for (float& value : exp_avg_sq.values) value = value * value;
  }
  AdamWStep step() {
    return {.parameter = {.weight = parameter.flat_view()},
            .exp_avg = {.values = exp_avg.flat_view()},
            .exp_avg_sq = {.values = exp_avg_sq.flat_view()},
            .gradient = gradient.flat_view(),
            .learning_rate = 3e-3,
            .weight_decay = 0.1,
            .step = 5,
            .gradient_scale = 0.37F};
  }
  Matrix parameter, exp_avg, exp_avg_sq, gradient;
};

bool same_bits(const Matrix& a, const Matrix& b) {
  return std::memcmp(a.values.data(), b.values.data(), a.values.size() * sizeof(float)) == 0;
}

/// Numbers from the whole range: ordinary, tiny, denormal, zero, huge.
State extreme_state(std::int64_t count) {
  State state(count);
  const float scales[] = {1.0F, 1e-20F, 1e-38F, 1e-42F, 0.0F, -0.0F, 1e18F, 3e-45F};
  for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
    state.parameter.values[i] *= scales[i % 8];
    state.gradient.values[i] *= scales[i / 2 % 8];
    state.exp_avg.values[i] *= scales[i / 3 % 8];
    state.exp_avg_sq.values[i] *= scales[i / 5 % 8];
    state.exp_avg_sq.values[i] = std::abs(state.exp_avg_sq.values[i]);
  }
  return state;
}

class AdamWOnInstructionSet : public test::OnInstructionSet {};
INSTANTIATE_TEST_SUITE_P(Wide, AdamWOnInstructionSet, testing::Values(InstructionSet::avx2, InstructionSet::avx512),
                         test::name_of_set);

TEST_P(AdamWOnInstructionSet, GivesTheBaselinesBits_AtAnyLengthAndWithDenormals) {
  ThreadPool pool(1);
  for (const std::int64_t count : {1, 3, 7, 8, 15, 16, 17, 31, 33, 63, 1001, 33333}) {
    State expected = extreme_state(count);
    adamw(pool, expected.step(), InstructionSet::baseline);
    State state = extreme_state(count);

    adamw(pool, state.step(), GetParam());

    EXPECT_TRUE(same_bits(state.parameter, expected.parameter)) << count;
    EXPECT_TRUE(same_bits(state.exp_avg, expected.exp_avg)) << count;
    EXPECT_TRUE(same_bits(state.exp_avg_sq, expected.exp_avg_sq)) << count;
  }
}

TEST(AdamW, OnOneAndThreeThreads_AndInPieces_GivesTheSameBits) {
  ThreadPool one(1), three(3);
  State whole(50001), threaded(50001), pieces(50001);

  adamw(one, whole.step());
  adamw(three, threaded.step());
  for (std::int64_t begin = 0; begin < 50001; begin += 777) {
    const std::int64_t count = std::min<std::int64_t>(777, 50001 - begin);
    AdamWStep step = pieces.step();
    step.parameter = step.parameter.flat(begin, count);
    step.exp_avg = step.exp_avg.flat(begin, count);
    step.exp_avg_sq = step.exp_avg_sq.flat(begin, count);
    step.gradient = step.gradient.flat(begin, count);
    adamw(one, step);
  }

  for (const State* other : {&threaded, &pieces}) {
    EXPECT_TRUE(same_bits(other->parameter, whole.parameter));
    EXPECT_TRUE(same_bits(other->exp_avg, whole.exp_avg));
    EXPECT_TRUE(same_bits(other->exp_avg_sq, whole.exp_avg_sq));
  }
}

TEST(AdamW, OverTenSteps_FollowsTheFormulaInDoublePrecision) {
  constexpr std::size_t kCount = 100;
  ThreadPool pool(2);
  State state(kCount);
  state.exp_avg = Matrix(1, kCount);
  state.exp_avg_sq = Matrix(1, kCount);
  std::vector<double> p = test::doubles(state.parameter.values), m(kCount), v(kCount);

  for (int t = 1; t <= 10; ++t) {
    state.gradient = Matrix::random(1, kCount, 100 + static_cast<std::uint64_t>(t));
    AdamWStep step = state.step();
    step.step = t;
    adamw(pool, step);
    for (std::size_t i = 0; i < kCount; ++i) {
      const double g = static_cast<double>(0.37F) * static_cast<double>(state.gradient.values[i]);
      p[i] *= 1 - 3e-3 * 0.1;
      m[i] = 0.9 * m[i] + 0.1 * g;
      v[i] = 0.999 * v[i] + 0.001 * g * g;
      p[i] -= 3e-3 / (1 - std::pow(0.9, t)) * m[i] / (std::sqrt(v[i]) / std::sqrt(1 - std::pow(0.999, t)) + 1e-8);
    }
  }

  for (std::size_t i = 0; i < kCount; ++i) {
    EXPECT_NEAR(static_cast<double>(state.parameter.values[i]), p[i], 2e-6);
    EXPECT_NEAR(static_cast<double>(state.exp_avg.values[i]), m[i], 1e-6);
    EXPECT_NEAR(static_cast<double>(state.exp_avg_sq.values[i]), v[i], 1e-7);
  }
}

TEST(AdamW, ZeroGradientAndMoments_OnlyDecays) {
  ThreadPool pool(1);
  State state(9);
  state.gradient = state.exp_avg = state.exp_avg_sq = Matrix(1, 9);
  const Matrix before = state.parameter;

  adamw(pool, state.step());

  for (std::size_t i = 0; i < 9; ++i)
    EXPECT_EQ(state.parameter.values[i], before.values[i] * static_cast<float>(1 - 3e-3 * 0.1));
}

}  // namespace
}  // namespace spillway::kernels::cpu
