// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include <gtest/gtest.h>

#include "kernels/cpu/adamw.hpp"
#include "kernels/cpu/state_codec.hpp"
#include "kernels/state_fixtures.hpp"

namespace spillway::kernels::cpu {
namespace {

using test::flat;
using test::instruction_sets;
using test::normals;
using test::same_bits;
using test::SplitParameter;
using test::State;

struct Formats {
  DType exp_avg = DType::f32, exp_avg_sq = DType::f32;
};

constexpr Formats kFormats[] = {{DType::f32, DType::f32}, {DType::bf16, DType::bf16}, {DType::u8, DType::u8},
                                {DType::u8, DType::bf16}, {DType::f32, DType::u8},    {DType::bf16, DType::f32}};

/// Parameters in 2 + 2 bytes, their moments and a gradient in bf16.
struct Compact {
  Compact(Formats formats, std::size_t count)
      : parameter(count), exp_avg(formats.exp_avg, count), exp_avg_sq(formats.exp_avg_sq, count), gradient(count) {
    ThreadPool pool(1);
    encode_parameter(pool, {flat(normals(count, 1)), parameter.view()});
  }
  void new_gradient(int step) {
    const std::vector<float> values = normals(gradient.size(), 100 + static_cast<std::uint64_t>(step));
    for (std::size_t i = 0; i < values.size(); ++i) gradient[i] = bf16_from_float(values[i]);
  }
  AdamWStep step(int t) {
    return {.parameter = parameter.view(),
            .exp_avg = exp_avg.view(),
            .exp_avg_sq = exp_avg_sq.view(),
            .gradient = test::bf16(gradient),
            .learning_rate = 3e-3,
            .weight_decay = 0.1,
            .step = t,
            .gradient_scale = 0.37F,
            .rounding = {.key = mix_key(1, static_cast<std::uint64_t>(t)), .site = 4, .first = 512}};
  }
  [[nodiscard]] bool same_as(const Compact& other) const {
    return same_bits(parameter.weight, other.parameter.weight) && same_bits(parameter.master, other.parameter.master) &&
           exp_avg.same_as(other.exp_avg) && exp_avg_sq.same_as(other.exp_avg_sq);
  }

  SplitParameter parameter;
  State exp_avg, exp_avg_sq;
  std::vector<std::uint16_t> gradient;
};

TEST(AdamWFormats, ParametersInTwoPlusTwoBytes_StayThoseOfFp32_OverManySteps) {
  constexpr std::size_t kCount = 5003;
  ThreadPool pool(2);
  Compact compact({}, kCount);
  std::vector<float> parameter = normals(kCount, 1), exp_avg(kCount), exp_avg_sq(kCount), gradient(kCount);

  for (int t = 1; t <= 50; ++t) {
    compact.new_gradient(t);
    for (std::size_t i = 0; i < kCount; ++i) gradient[i] = float_from_bf16(compact.gradient[i]);
    AdamWStep plain = compact.step(t);
    plain.parameter = {.weight = flat(parameter)};
    plain.exp_avg = {.values = flat(exp_avg)};
    plain.exp_avg_sq = {.values = flat(exp_avg_sq)};
    plain.gradient = flat(gradient);
    adamw(pool, plain);
    adamw(pool, compact.step(t));
  }

  std::vector<float> back(kCount);
  decode_parameter(pool, {compact.parameter.view(), flat(back)});
  EXPECT_TRUE(same_bits(back, parameter));
  EXPECT_EQ(std::memcmp(compact.exp_avg.bytes.data(), exp_avg.data(), kCount * sizeof(float)), 0);
  EXPECT_EQ(std::memcmp(compact.exp_avg_sq.bytes.data(), exp_avg_sq.data(), kCount * sizeof(float)), 0);
}

TEST(AdamWFormats, AStep_IsDecodingThenTheFp32StepThenEncoding) {
  constexpr std::size_t kCount = 2000;
  ThreadPool pool(2);
  for (const Formats& formats : kFormats) {
    Compact compact(formats, kCount);
    for (int t = 1; t <= 4; ++t) {
      compact.new_gradient(t);
      Compact expected = compact;
      std::vector<float> parameter(kCount), exp_avg(kCount), exp_avg_sq(kCount);
      decode_parameter(pool, {expected.parameter.view(), flat(parameter)});
      decode_state(pool, {expected.exp_avg.view(), flat(exp_avg), StateSign::either});
      decode_state(pool, {expected.exp_avg_sq.view(), flat(exp_avg_sq), StateSign::nonnegative});
      AdamWStep plain = expected.step(t);
      plain.parameter = {.weight = flat(parameter)};
      plain.exp_avg = {.values = flat(exp_avg)};
      plain.exp_avg_sq = {.values = flat(exp_avg_sq)};
      adamw(pool, plain);
      StochasticRounding rounding = plain.rounding;
      encode_parameter(pool, {flat(parameter), expected.parameter.view()});
      encode_state(pool, {flat(exp_avg), expected.exp_avg.view(), StateSign::either, rounding});
      rounding.site += 1;
      encode_state(pool, {flat(exp_avg_sq), expected.exp_avg_sq.view(), StateSign::nonnegative, rounding});

      adamw(pool, compact.step(t));

      EXPECT_TRUE(compact.same_as(expected)) << name_of(formats.exp_avg) << " " << name_of(formats.exp_avg_sq);
    }
  }
}

TEST(AdamWFormats, OnEveryInstructionSet_AnyThreads_AndInPieces_GiveTheSameBits) {
  constexpr std::int64_t kCount = 40000;
  ThreadPool one(1), three(3);
  for (const Formats& formats : kFormats) {
    Compact expected(formats, kCount), pieces(formats, kCount);
    const auto two_steps = [](Compact& state, const auto& run) {
      for (int t = 1; t <= 2; ++t) {
        state.new_gradient(t);
        run(state.step(t));
      }
    };
    two_steps(expected, [&](const AdamWStep& step) { adamw(one, step, InstructionSet::baseline); });

    for (const InstructionSet set : instruction_sets()) {
      Compact state(formats, kCount);
      two_steps(state, [&](const AdamWStep& step) { adamw(three, step, set); });
      EXPECT_TRUE(state.same_as(expected)) << name_of(formats.exp_avg) << " " << name_of(formats.exp_avg_sq);
    }
    two_steps(pieces, [&](const AdamWStep& step) {
      for (std::int64_t begin = 0; begin < kCount; begin += 256 * 11) {
        const std::int64_t count = std::min<std::int64_t>(256 * 11, kCount - begin);
        AdamWStep part = step;
        part.parameter = step.parameter.flat(begin, count);
        part.exp_avg = step.exp_avg.flat(begin, count);
        part.exp_avg_sq = step.exp_avg_sq.flat(begin, count);
        part.gradient = step.gradient.flat(begin, count);
        part.rounding.first += begin;
        adamw(one, part);
      }
    });
    EXPECT_TRUE(pieces.same_as(expected)) << name_of(formats.exp_avg) << " " << name_of(formats.exp_avg_sq);
  }
}

/// A quadratic bowl: whatever the format, AdamW must get to the same place.
TEST(AdamWFormats, AnyStateFormat_FindsTheMinimumThatFp32Finds) {
  constexpr std::size_t kCount = 1024;
  ThreadPool pool(1);
  const std::vector<float> minimum = normals(kCount, 8);
  for (const Formats& formats : kFormats) {
    std::vector<float> parameter(kCount, 0.0F), gradient(kCount);
    State exp_avg(formats.exp_avg, kCount), exp_avg_sq(formats.exp_avg_sq, kCount);

    for (int t = 1; t <= 600; ++t) {
      for (std::size_t i = 0; i < kCount; ++i) gradient[i] = parameter[i] - minimum[i];
      adamw(pool, {.parameter = {.weight = flat(parameter)},
                   .exp_avg = exp_avg.view(),
                   .exp_avg_sq = exp_avg_sq.view(),
                   .gradient = flat(gradient),
                   .learning_rate = t < 300 ? 3e-2 : 3e-3,
                   .step = t,
                   .rounding = {.key = static_cast<std::uint64_t>(t), .site = 0, .first = 0}});
    }

    double distance = 0.0;
    for (std::size_t i = 0; i < kCount; ++i) distance += std::pow(static_cast<double>(parameter[i] - minimum[i]), 2);
    EXPECT_LT(std::sqrt(distance / kCount), 0.02) << name_of(formats.exp_avg) << " " << name_of(formats.exp_avg_sq);
  }
}

}  // namespace
}  // namespace spillway::kernels::cpu
