// SPDX-License-Identifier: Apache-2.0
#include "comm/rank_order_sum.hpp"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

namespace spillway {
namespace {

TensorView view(std::vector<float>& values) { return {std::span(values), {static_cast<std::int64_t>(values.size())}}; }

const std::byte* bytes(const auto& values) { return reinterpret_cast<const std::byte*>(values.data()); }

TEST(SumInRankOrder, AddsInTheOrderOfThePieces) {
  const std::vector<float> big{1e8F}, one{1.0F}, minus_big{-1e8F};
  std::vector<float> sum(1);
  const std::vector<const std::byte*> one_second{bytes(big), bytes(one), bytes(minus_big)};
  const std::vector<const std::byte*> one_last{bytes(big), bytes(minus_big), bytes(one)};

  comm::sum_in_rank_order(one_second, DType::f32, view(sum));
  EXPECT_EQ(sum[0], 0.0F);
  comm::sum_in_rank_order(one_last, DType::f32, view(sum));
  EXPECT_EQ(sum[0], 1.0F);
}

TEST(SumInRankOrder, RoundsOnceAtTheEnd) {
  // bf16 has steps of 2 at 256: rounded at each sum, 256 + 1 + 1 would stay 256.
  const std::vector<std::uint16_t> first{bf16_from_float(256.0F)}, second{bf16_from_float(1.0F)};
  std::vector<std::uint16_t> sum(1);
  const std::vector<const std::byte*> pieces{bytes(first), bytes(second), bytes(second)};

  comm::sum_in_rank_order(pieces, DType::bf16, {reinterpret_cast<std::byte*>(sum.data()), DType::bf16, Shape{1}});

  EXPECT_EQ(float_from_bf16(sum[0]), 258.0F);
}

TEST(SumInRankOrder, GoesThroughArraysLongerThanItsBlock) {
  std::vector<float> first(5001), second(5001), sum(5001);
  for (std::size_t i = 0; i < first.size(); ++i) {
    first[i] = static_cast<float>(i);
    second[i] = 0.25F;
  }
  const std::vector<const std::byte*> pieces{bytes(first), bytes(second)};

  comm::sum_in_rank_order(pieces, DType::f32, view(sum));

  for (std::size_t i = 0; i < sum.size(); ++i) ASSERT_EQ(sum[i], static_cast<float>(i) + 0.25F);
}

TEST(SumInRankOrder, OfOnePieceKeepsTheSignOfZero) {
  const std::vector<float> zero{-0.0F};
  std::vector<float> sum{1.0F};
  const std::vector<const std::byte*> pieces{bytes(zero)};

  comm::sum_in_rank_order(pieces, DType::f32, view(sum));

  EXPECT_EQ(sum[0], 0.0F);
  EXPECT_TRUE(std::signbit(sum[0]));
}

}  // namespace
}  // namespace spillway
