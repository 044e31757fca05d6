// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/state_codec.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "kernels/dynamic_map.hpp"
#include "kernels/exact_master.hpp"
#include "kernels/state_fixtures.hpp"

namespace spillway::kernels::cpu {
namespace {

using test::flat;
using test::instruction_sets;
using test::normals;
using test::same_bits;
using test::State;

std::vector<float> decoded(ThreadPool& pool, State& state, StateSign sign = StateSign::either) {
  std::vector<float> values(static_cast<std::size_t>(state.elements));
  decode_state(pool, {.state = state.view(), .values = flat(values), .sign = sign});
  return values;
}

/// Numbers over many orders of magnitude.
std::vector<float> wide_normals(std::size_t count, std::uint64_t stream) {
  std::vector<float> values = normals(count, stream);
  const std::vector<float> exponents = normals(count, stream + 1000);
  for (std::size_t i = 0; i < count; ++i) values[i] *= std::exp(4.0F * exponents[i]);
  return values;
}

TEST(StateCodec, Parameters_ComeBackExactly_OnEveryInstructionSet) {
  ThreadPool pool(2);
  for (const InstructionSet set : instruction_sets())
    for (const std::size_t count : {1U, 17U, 511U, 513U, 40001U}) {
      const std::vector<float> values = wide_normals(count, 1);
      test::SplitParameter parameter(count);
      std::vector<float> back(count), copied(count), again(count);

      encode_parameter(pool, {.values = flat(values), .parameter = parameter.view()}, set);
      decode_parameter(pool, {.parameter = parameter.view(), .values = flat(back)}, set);
      encode_parameter(pool, {.values = flat(values), .parameter = {.weight = flat(copied)}}, set);
      decode_parameter(pool, {.parameter = {.weight = flat(copied)}, .values = flat(again)}, set);

      EXPECT_TRUE(same_bits(back, values)) << count;
      EXPECT_TRUE(same_bits(again, values)) << count;
      EXPECT_EQ(parameter.weight.back(), split(values.back()).weight);
    }
}

TEST(StateCodec, AnyFormat_HasTheSameBits_OnEveryInstructionSetAndThreadCount) {
  ThreadPool one(1), three(3);
  for (const DType format : {DType::f32, DType::bf16, DType::u8})
    for (const StateSign sign : {StateSign::either, StateSign::nonnegative}) {
      std::vector<float> values = wide_normals(50001, 3);
      if (sign == StateSign::nonnegative)
        for (float& value : values) value = std::abs(value);
      State expected(format, values.size());
      const StochasticRounding rounding{.key = 5, .site = 9, .first = 256 * 1001};
      encode_state(one, {flat(values), expected.view(), sign, rounding}, InstructionSet::baseline);
      const std::vector<float> expected_values = decoded(one, expected, sign);
      for (const InstructionSet set : instruction_sets()) {
        State state(format, values.size());
        std::vector<float> back(values.size());

        encode_state(three, {flat(values), state.view(), sign, rounding}, set);
        decode_state(three, {state.view(), flat(back), sign}, set);

        EXPECT_TRUE(state.same_as(expected)) << name_of(format);
        EXPECT_TRUE(same_bits(back, expected_values)) << name_of(format);
      }
    }
}

TEST(StateCodec, StochasticRounding_IsKeyedByTheElementsPlaceInTheUnit) {
  constexpr std::int64_t kCount = 3000;
  ThreadPool pool(2);
  const std::vector<float> values = normals(kCount, 1);
  State whole(DType::bf16, kCount), pieces(DType::bf16, kCount), elsewhere(DType::bf16, kCount);
  const StochasticRounding rounding{.key = 77, .site = 3, .first = (std::int64_t{1} << 36) + 5};

  encode_state(pool, {flat(values), whole.view(), StateSign::either, rounding});
  for (std::int64_t begin = 0, count = 1; begin < kCount; begin += count, count = count * 3 % 401 + 1) {
    count = std::min(count, kCount - begin);
    StochasticRounding part = rounding;
    part.first += begin;
    encode_state(pool, {flat(values).flat(begin, count), pieces.view().flat(begin, count), StateSign::either, part});
  }

  EXPECT_TRUE(pieces.same_as(whole));
  for (const StochasticRounding other :
       {StochasticRounding{78, 3, rounding.first}, {77, 4, rounding.first}, {77, 3, 5}}) {
    encode_state(pool, {flat(values), elsewhere.view(), StateSign::either, other});
    EXPECT_FALSE(elsewhere.same_as(whole));
  }
}

TEST(StateCodec, StochasticRounding_DrawsWhatTheDocumentationSays) {
  constexpr std::int64_t kFirst = 128 * 1000003 + 77;
  ThreadPool pool(1);
  const std::vector<float> values = normals(300, 1);
  State state(DType::bf16, values.size());

  encode_state(pool,
               {flat(values), state.view(), StateSign::either, {.key = 1234567890123, .site = 6, .first = kFirst}});

  for (std::int64_t i = 0; i < 300; ++i) {
    const std::int64_t element = kFirst + i, group = element / 128, lane = element % 128 / 16, j = element % 16;
    const auto counter = static_cast<std::uint64_t>(16 * group + j);
    const auto draws = Philox::draw(1234567890123, {static_cast<std::uint32_t>(counter),
                                                    static_cast<std::uint32_t>(counter >> 32), 6, 0x53520000U});
    const std::uint32_t draw = (draws[static_cast<std::size_t>(lane / 2)] >> (16 * (lane % 2))) & 0xFFFFU;
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(values[static_cast<std::size_t>(i)]);
    std::uint16_t stored = 0;
    std::memcpy(&stored, state.bytes.data() + 2 * i, 2);
    ASSERT_EQ(stored, (bits + draw) >> 16) << i;
  }
}

TEST(StateCodec, StochasticRounding_KeepsTheMean_AndBf16NumbersAsTheyAre) {
  constexpr std::size_t kCount = 1 << 18;
  ThreadPool pool(2);
  for (const float value : {1.0F + 0x1p-9F, -3.3F, 1e-3F, 3e-41F, 0x1.FFp0F, 0.0F, -1.5F}) {
    const std::vector<float> values(kCount, value);
    State state(DType::bf16, kCount);

    encode_state(pool, {flat(values), state.view(), StateSign::either, {.key = 1, .site = 2, .first = 0}});

    const std::vector<float> back = decoded(pool, state);
    const double low = std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) & 0xFFFF0000U);
    const double high = std::bit_cast<float>((std::bit_cast<std::uint32_t>(value) & 0xFFFF0000U) + 0x10000U);
    const double exact = value, gap = std::abs(high - low), part = std::abs(exact - low) / gap;
    double mean = 0.0;
    for (const float number : back) {
      ASSERT_TRUE(static_cast<double>(number) == low || (static_cast<double>(number) == high && part > 0)) << value;
      mean += (static_cast<double>(number) - low) / (high - low) / kCount;
    }
    // Five standard deviations of the mean of kCount draws.
    EXPECT_NEAR(mean, part, 5 * std::sqrt(part * (1 - part) / kCount)) << value;
  }
}

/// The distance of x to the map's nearest number, by looking at all of them.
double nearest(const std::array<float, 256>& map, double x) {
  double least = std::numeric_limits<double>::infinity();
  for (const float number : map) least = std::min(least, std::abs(static_cast<double>(number) - x));
  return least;
}

TEST(StateCodec, Int8_TakesTheNearestNumberOfTheMap) {
  ThreadPool pool(1);
  for (const StateSign sign : {StateSign::either, StateSign::nonnegative}) {
    const auto& map = dynamic_map(sign);
    std::vector<float> values;
    // Every number of the map, every middle between two and its neighbours in fp32, then random ones; 1 leads each block.
    for (std::size_t i = 0; i + 1 < 256; ++i) {
      const float middle = map[i] / 2 + map[i + 1] / 2;
      for (const float value : {map[i], std::nextafterf(middle, -2.0F), middle, std::nextafterf(middle, 2.0F)}) {
        if (values.size() % 256 == 0) values.push_back(1.0F);
        values.push_back(sign == StateSign::nonnegative ? std::abs(value) : value);
      }
    }
    for (const float value : wide_normals(20000, 4)) {
      if (values.size() % 256 == 0) values.push_back(1.0F);
      const float small = std::clamp(0.01F * value, -1.0F, 1.0F);
      values.push_back(sign == StateSign::nonnegative ? std::abs(small) : small);
    }
    State state(DType::u8, values.size());

    encode_state(pool, {flat(values), state.view(), sign, {}});

    const std::vector<float> back = decoded(pool, state, sign);
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (sign == StateSign::nonnegative && values[i] > 0.0F && values[i] < map[1]) {
        ASSERT_EQ(back[i], map[1]) << "a second moment above zero must not become zero";
        continue;
      }
      ASSERT_EQ(std::abs(static_cast<double>(back[i]) - static_cast<double>(values[i])),
                nearest(map, static_cast<double>(values[i])))
          << values[i];
    }
  }
}

TEST(StateCodec, Int8_ErrorIsBounded_AndZeroAndTheLargestStayExact) {
  ThreadPool pool(2);
  std::vector<float> values = normals(10 * 256 + 100, 2);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] *= std::pow(10.0F, static_cast<float>(i / 256) * 3 - 20);
  values[5] = 0.0F;
  State state(DType::u8, values.size());

  encode_state(pool, {flat(values), state.view(), StateSign::either, {}});

  const std::vector<float> back = decoded(pool, state);
  for (std::size_t begin = 0; begin < values.size(); begin += 256) {
    const std::size_t end = std::min(values.size(), begin + 256);
    float largest = 0.0F;
    for (std::size_t i = begin; i < end; ++i) largest = std::max(largest, std::abs(values[i]));
    EXPECT_EQ(std::abs(state.scales[begin / 256]), largest);
    for (std::size_t i = begin; i < end; ++i) {
      // Half a step of the map: of the largest 64th of 0.9, below 0.1 of 9 % of the number, and near 0 of 0.55e-6.
      const float bound = std::max({0.0071F * largest * (std::abs(values[i]) > 0.1F * largest ? 1.0F : 0.0F),
                                    0.46F * std::abs(values[i]), 0.56e-6F * largest});
      ASSERT_LE(std::abs(back[i] - values[i]), bound) << i;
      if (values[i] == state.scales[begin / 256]) {
        ASSERT_EQ(back[i], values[i]);
      }
    }
  }
  EXPECT_EQ(back[5], 0.0F);
}

/// What a checkpoint does: read out in fp32, stored again.
TEST(StateCodec, Int8_StoredAgain_HasTheSameCodesAndScales) {
  ThreadPool pool(2);
  for (const StateSign sign : {StateSign::either, StateSign::nonnegative}) {
    std::vector<float> values = normals(200 * 256, 7);
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] *= std::pow(10.0F, static_cast<float>(i / 256 % 30) - 15);
      if (sign == StateSign::nonnegative) values[i] *= values[i];
    }
    State state(DType::u8, values.size());
    encode_state(pool, {flat(values), state.view(), sign, {}});
    const State once = state;

    const std::vector<float> back = decoded(pool, state, sign);
    encode_state(pool, {flat(back), state.view(), sign, {}});

    EXPECT_TRUE(state.same_as(once));
    EXPECT_EQ(decoded(pool, state, sign), back);
  }
}

TEST(StateCodec, Int8_OfZerosAndOfDenormals_IsFinite) {
  ThreadPool pool(1);
  std::vector<float> values(700, 0.0F);
  for (std::size_t i = 256; i < 512; ++i) values[i] = 1e-44F * static_cast<float>(i % 5);
  State state(DType::u8, values.size());

  encode_state(pool, {flat(values), state.view(), StateSign::nonnegative, {}});

  const std::vector<float> back = decoded(pool, state, StateSign::nonnegative);
  for (std::size_t i = 0; i < values.size(); ++i) ASSERT_NEAR(back[i], values[i], 2e-45F) << i;
}

TEST(StateCodec, Int8_InPiecesOfWholeBlocks_HasTheSameBits) {
  constexpr std::int64_t kCount = 256 * 30 + 17;
  ThreadPool pool(2);
  const std::vector<float> values = normals(kCount, 6);
  State whole(DType::u8, kCount), pieces(DType::u8, kCount);

  encode_state(pool, {flat(values), whole.view(), StateSign::either, {}});
  for (std::int64_t begin = 0, count = 256; begin < kCount; begin += count, count += 256) {
    count = std::min(count, kCount - begin);
    encode_state(pool, {flat(values).flat(begin, count),
                        pieces.view().flat(begin, count),
                        StateSign::either,
                        {.key = 0, .site = 0, .first = begin}});
  }

  EXPECT_TRUE(pieces.same_as(whole));
}

}  // namespace
}  // namespace spillway::kernels::cpu
