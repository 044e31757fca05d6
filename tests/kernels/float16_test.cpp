// SPDX-License-Identifier: Apache-2.0
#include "kernels/float16.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "core/dtype.hpp"
#include "kernels/cpu/adamw.hpp"
#include "kernels/cpu/state_codec.hpp"
#include "kernels/cpu/sum_of_squares.hpp"
#include "kernels/state_fixtures.hpp"

namespace spillway::kernels {
namespace {

using test::flat;
using test::normals;
using test::same_bits;

TEST(Float16, EveryPattern_IsWidenedAsCoreDoes_AndComesBack) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float value = widened_f16(half);

    EXPECT_EQ(std::bit_cast<std::uint32_t>(value), std::bit_cast<std::uint32_t>(float_from_f16(half))) << bits;
    if (std::isnan(value)) continue;
    EXPECT_EQ(rounded_f16(value), half) << bits;
  }
}

TEST(Float16, Numbers_AreRoundedAsCoreDoes) {
  for (std::uint64_t bits = 0; bits <= 0xFFFFFFFFU; bits += 4093) {
    const auto value = std::bit_cast<float>(static_cast<std::uint32_t>(bits));
    EXPECT_EQ(rounded_f16(value), f16_from_float(value)) << bits;
  }
}

TEST(Float16, HalfWayBetweenTwoNumbers_GoesToTheEvenOne_AndTooLargeIsInfinity) {
  EXPECT_EQ(widened_f16(rounded_f16(1.0F + 0x1p-11F)), 1.0F);
  EXPECT_EQ(widened_f16(rounded_f16(1.0F + 0x3p-11F)), 1.0F + 0x1p-9F);
  EXPECT_EQ(rounded_f16(0x1p-25F), 0);
  EXPECT_EQ(widened_f16(rounded_f16(0x3p-25F)), 0x1p-23F);
  EXPECT_EQ(widened_f16(rounded_f16(65519.0F)), 65504.0F);
  EXPECT_EQ(widened_f16(rounded_f16(-65520.0F)), -std::numeric_limits<float>::infinity());
}

TEST(HalfParameters, ComeBackAsTheirMaster_AndTheWeightIsItRounded) {
  cpu::ThreadPool pool(2);
  const std::vector<float> values = normals(1003, 1);
  std::vector<float> back(values.size());
  for (const cpu::InstructionSet set : test::instruction_sets()) {
    test::HalfParameter parameter(values.size());

    cpu::encode_parameter(pool, {flat(values), parameter.view()}, set);
    cpu::decode_parameter(pool, {parameter.view(), flat(back)}, set);

    EXPECT_TRUE(same_bits(back, values));
    EXPECT_TRUE(same_bits(parameter.master, values));
    for (std::size_t i = 0; i < values.size(); ++i) ASSERT_EQ(parameter.weight[i], f16_from_float(values[i]));
  }
}

TEST(HalfParameters, OfAFrozenWeight_AreTheNumbersRounded) {
  cpu::ThreadPool pool(1);
  const std::vector<float> values = normals(77, 1);
  std::vector<std::uint16_t> weight(values.size());
  std::vector<float> back(values.size());

  cpu::encode_parameter(pool, {flat(values), {.weight = test::f16(weight), .master = {}}});
  cpu::decode_parameter(pool, {{.weight = test::f16(weight), .master = {}}, flat(back)});

  for (std::size_t i = 0; i < values.size(); ++i) EXPECT_EQ(back[i], float_from_f16(f16_from_float(values[i])));
}

TEST(HalfParameters, AdamW_UpdatesTheMasterAsItDoesF32_FromGradientsInF16) {
  cpu::ThreadPool pool(2);
  const std::size_t count = 5003;
  const std::vector<float> start = normals(count, 1);
  std::vector<std::uint16_t> halves(count);
  std::vector<float> gradient = normals(count, 2);
  for (std::size_t i = 0; i < count; ++i) gradient[i] = float_from_f16(halves[i] = f16_from_float(gradient[i]));
  for (const cpu::InstructionSet set : test::instruction_sets()) {
    std::vector<float> plain = start, plain_avg(count, 0.1F), plain_sq(count, 0.2F);
    std::vector<float> half_avg = plain_avg, half_sq = plain_sq;
    test::HalfParameter half(count);
    cpu::encode_parameter(pool, {flat(start), half.view()}, set);
    const auto step = [&](const ParameterView& parameter, std::vector<float>& avg, std::vector<float>& sq,
                          const ConstTensorView& g) {
      return AdamWStep{.parameter = parameter,
                       .exp_avg = {flat(avg), {}},
                       .exp_avg_sq = {flat(sq), {}},
                       .gradient = g,
                       .learning_rate = 1e-2,
                       .weight_decay = 0.1,
                       .gradient_scale = 1.0F / 1024.0F,
                       .rounding = {}};
    };

    cpu::adamw(pool, step({.weight = flat(plain), .master = {}}, plain_avg, plain_sq, flat(gradient)), set);
    cpu::adamw(pool, step(half.view(), half_avg, half_sq, test::f16(halves)), set);

    EXPECT_TRUE(same_bits(half.master, plain));
    EXPECT_TRUE(same_bits(half_avg, plain_avg));
    EXPECT_TRUE(same_bits(half_sq, plain_sq));
    for (std::size_t i = 0; i < count; ++i) ASSERT_EQ(half.weight[i], f16_from_float(plain[i]));
  }
}

TEST(SumOfSquaresInF16, IsThatOfTheSameNumbersInF32_AndNotFiniteWhereOneIsNot) {
  cpu::ThreadPool pool(2);
  std::vector<std::uint16_t> halves(1003);
  std::vector<float> values = normals(halves.size(), 4);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = float_from_f16(halves[i] = f16_from_float(values[i]));
  for (const cpu::InstructionSet set : test::instruction_sets()) {
    std::vector<double> expected(8), found(8);
    cpu::sum_of_squares(pool, {.x = flat(values), .block = 130, .partial_sums = flat(expected)}, set);

    cpu::sum_of_squares(pool, {.x = test::f16(halves), .block = 130, .partial_sums = flat(found)}, set);

    EXPECT_TRUE(same_bits(found, expected));
  }
  halves[500] = 0x7c00;
  std::vector<double> sums(8);

  cpu::sum_of_squares(pool, {.x = test::f16(halves), .block = 130, .partial_sums = flat(sums)});

  for (std::size_t block = 0; block < sums.size(); ++block) EXPECT_EQ(std::isfinite(sums[block]), block != 3) << block;
}

}  // namespace
}  // namespace spillway::kernels
