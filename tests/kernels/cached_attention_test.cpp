// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <tuple>
#include <utility>
#include <vector>

#include <gmock/gmock.h>

#include "core/philox.hpp"
#include "kernels/cpu/attention.hpp"
#include "kernels/generation_fixture.hpp"
#include "kernels/kernel_fixtures.hpp"
#include "kernels/vector_views.hpp"

namespace spillway::kernels {
namespace {

using test::at_position;
using test::GenerationOpsTest;
using test::random_values;
using test::view;
using test::writable;
using testing::ElementsAre;
using testing::FloatNear;
using testing::Pointwise;

TEST_F(GenerationOpsTest, SelfAttentionWritesEachRowsTokenToTheCacheAndNothingElse) {
  const std::vector<float> kv = {1, 2, -1, -2, 9,
                                 3, 4, -3, -4, 9};  // two rows: k (2), v (2), one column of something else
  std::vector<float> cache_k(2 * 3 * 2, 0.5F);
  std::vector<float> cache_v(2 * 3 * 2, 0.5F);
  const std::vector<std::int32_t> ancestry(2 * 3, 0);
  std::vector<float> out(2 * 2);

  ops_->cached_self_attention(*queue_, {.rows = 2,
                                        .capacity = 3,
                                        .heads = 1,
                                        .head_size = 2,
                                        .position = at_position(1),
                                        .q = view(kv, {2, 5}),
                                        .k = view(kv, {2, 5}),
                                        .v = view(kv, {2, 5}).flat(2, 8),
                                        .stride = 5,
                                        .cache_k = writable(cache_k, {2, 3, 2}),
                                        .cache_v = writable(cache_v, {2, 3, 2}),
                                        .ancestry = view(ancestry, {2, 3}),
                                        .bias = {},
                                        .out = writable(out, {2, 2})});

  EXPECT_THAT(cache_k, ElementsAre(0.5F, 0.5F, 1, 2, 0.5F, 0.5F, 0.5F, 0.5F, 3, 4, 0.5F, 0.5F));
  EXPECT_THAT(cache_v, ElementsAre(0.5F, 0.5F, -1, -2, 0.5F, 0.5F, 0.5F, 0.5F, -3, -4, 0.5F, 0.5F));
}

struct HeadShape {
  std::int64_t heads, head_size, position;
};
class CachedAttention : public GenerationOpsTest, public testing::WithParamInterface<HeadShape> {};

TEST_P(CachedAttention, SelfIsTheLastRowOfCausalAttentionOverTheAncestors) {
  const auto [heads, head_size, position] = GetParam();
  const std::int64_t rows = 5;
  const std::int64_t capacity = position + 3;
  const std::int64_t width = heads * head_size;
  const std::int64_t length = position + 1;
  const std::vector<float> q = random_values(rows * (width + 4), 1);
  const std::vector<float> k = random_values(rows * (width + 4), 6);
  const std::vector<float> v = random_values(rows * (width + 4), 7);
  std::vector<float> cache_k = random_values(rows * capacity * width, 2);
  std::vector<float> cache_v = random_values(rows * capacity * width, 3);
  const std::vector<float> table = random_values(32 * heads, 4);
  PhiloxStream random(3, 5);
  std::vector<std::int32_t> ancestry(static_cast<std::size_t>(rows * capacity),
                                     -1);  // from `position` on nobody may look
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t j = 0; j < position; ++j)
      ancestry[static_cast<std::size_t>(r * capacity + j)] = static_cast<std::int32_t>(random.below(rows));
  }
  // The same as packed sequences: each row with its own history.
  std::vector<float> full_q(static_cast<std::size_t>(rows * length * width), 0.25F);
  std::vector<float> full_k = full_q;
  std::vector<float> full_v = full_q;
  std::vector<std::int32_t> offsets;
  for (std::int64_t r = 0; r < rows; ++r) {
    offsets.push_back(static_cast<std::int32_t>(r * length));
    for (std::int64_t j = 0; j < position; ++j) {
      const std::int64_t from = ancestry[static_cast<std::size_t>(r * capacity + j)];
      std::copy_n(cache_k.begin() + (from * capacity + j) * width, width, full_k.begin() + (r * length + j) * width);
      std::copy_n(cache_v.begin() + (from * capacity + j) * width, width, full_v.begin() + (r * length + j) * width);
    }
    for (const auto& [token, full] : {std::pair{&q, &full_q}, std::pair{&k, &full_k}, std::pair{&v, &full_v}})
      std::copy_n(token->begin() + r * (width + 4), width, full->begin() + (r * length + position) * width);
  }
  offsets.push_back(static_cast<std::int32_t>(rows * length));
  const RelativeBias bias{.table = view(table, {32, heads}), .bidirectional = false, .max_distance = 128};
  std::vector<float> out(static_cast<std::size_t>(rows * width));

  ops_->cached_self_attention(*queue_, {.rows = rows,
                                        .capacity = capacity,
                                        .heads = heads,
                                        .head_size = head_size,
                                        .position = at_position(position),
                                        .q = view(q, {rows, width + 4}),
                                        .k = view(k, {rows, width + 4}),
                                        .v = view(v, {rows, width + 4}),
                                        .stride = width + 4,
                                        .cache_k = writable(cache_k, {rows, capacity, width}),
                                        .cache_v = writable(cache_v, {rows, capacity, width}),
                                        .ancestry = view(ancestry, {rows, capacity}),
                                        .bias = bias,
                                        .out = writable(out, {rows, width})});

  const PackedSequences sequences{.offsets = view(offsets, {rows + 1}),
                                  .row_sample = {},
                                  .row_position = {},
                                  .count = rows,
                                  .rows = rows * length,
                                  .longest = length};
  std::vector<float> full_out(full_q.size());
  const Shape full{rows * length, width};
  cpu::attention(*pool_, {.queries = sequences,
                          .keys = sequences,
                          .heads = heads,
                          .head_size = head_size,
                          .q = view(full_q, full),
                          .k = view(full_k, full),
                          .v = view(full_v, full),
                          .q_stride = width,
                          .k_stride = width,
                          .v_stride = width,
                          .bias = bias,
                          .causal = true,
                          .dropout = {},
                          .out = writable(full_out, full),
                          .log_sum_exp = {}});
  for (std::int64_t r = 0; r < rows; ++r) {
    const auto last = full_out.begin() + (r * length + position) * width;
    EXPECT_THAT(std::vector<float>(out.begin() + r * width, out.begin() + (r + 1) * width),
                Pointwise(FloatNear(1e-5F), std::vector<float>(last, last + width)))
        << "row " << r;
  }
}

TEST_P(CachedAttention, CrossIsAttentionOfOneQueryPerRow) {
  const auto [heads, head_size, position] = GetParam();
  const std::int64_t width = heads * head_size;
  const std::vector<std::int32_t> offsets = {0, 3, 4, static_cast<std::int32_t>(5 + position)};
  const std::int64_t keys = offsets.back();
  const std::vector<std::int32_t> row_sequence = {0, 0, 2, 1, 2};
  const std::int64_t rows = 5;
  const std::vector<float> q = random_values(rows * width, 1);
  const std::vector<float> kv = random_values(keys * (2 * width + 1), 2);
  std::vector<float> out(static_cast<std::size_t>(rows * width));

  ops_->cached_cross_attention(*queue_, {.keys = {.offsets = view(offsets, {4}),
                                                  .row_sample = {},
                                                  .row_position = {},
                                                  .count = 3,
                                                  .rows = keys,
                                                  .longest = std::max<std::int64_t>(3, position + 1)},
                                         .rows = rows,
                                         .heads = heads,
                                         .head_size = head_size,
                                         .q = view(q, {rows, width}),
                                         .k = view(kv, {keys, 2 * width + 1}),
                                         .v = view(kv, {keys, 2 * width + 1}).flat(width, width),
                                         .row_sequence = view(row_sequence, {rows}),
                                         .k_stride = 2 * width + 1,
                                         .v_stride = 2 * width + 1,
                                         .out = writable(out, {rows, width})});

  for (std::int64_t r = 0; r < rows; ++r) {
    const auto s = static_cast<std::size_t>(row_sequence[static_cast<std::size_t>(r)]);
    for (std::int64_t h = 0; h < heads; ++h) {
      std::vector<double> expected(static_cast<std::size_t>(head_size), 0.0);
      double sum = 0.0;
      for (std::int64_t j = offsets[s]; j < offsets[s + 1]; ++j) {
        const float* const key = kv.data() + j * (2 * width + 1) + h * head_size;
        double score = 0.0;
        for (std::int64_t c = 0; c < head_size; ++c)
          score += double{q[static_cast<std::size_t>(r * width + h * head_size + c)]} * double{key[c]};
        sum += std::exp(score);
        for (std::int64_t c = 0; c < head_size; ++c)
          expected[static_cast<std::size_t>(c)] += std::exp(score) * double{key[width + c]};
      }
      for (std::int64_t c = 0; c < head_size; ++c) {
        EXPECT_NEAR(out[static_cast<std::size_t>(r * width + h * head_size + c)],
                    expected[static_cast<std::size_t>(c)] / sum, 1e-5)
            << "row " << r;
      }
    }
  }
}

std::vector<BFloat16> halves(const std::vector<float>& values) {
  std::vector<BFloat16> result;
  for (const float value : values) result.push_back({bf16_from_float(value)});
  return result;
}
std::vector<float> widened(const std::vector<BFloat16>& values) {
  std::vector<float> result;
  for (const BFloat16 value : values) result.push_back(float_from_bf16(value.bits));
  return result;
}

TEST_P(CachedAttention, InBf16_IsTheF32OpOnTheSameNumbersRounded) {
  const auto [heads, head_size, position] = GetParam();
  const std::int64_t rows = 3, width = heads * head_size, capacity = position + 2;
  const Shape cache{rows, capacity, width};
  const std::vector<BFloat16> qkv = halves(random_values(rows * 3 * width, 1));
  const std::vector<BFloat16> table = halves(random_values(32 * heads, 2));
  const std::vector<BFloat16> history = halves(random_values(rows * capacity * width, 3));
  const std::vector<std::int32_t> ancestry(static_cast<std::size_t>(rows * capacity), 1);
  const std::vector<std::int32_t> offsets = {0, 1, static_cast<std::int32_t>(rows)}, row_sequence = {1, 0, 1};
  const auto run = [&](const auto& packed, const auto& bias, auto cache_k, auto self) {
    auto cache_v = cache_k;
    auto cross = self;
    const ConstTensorView all = view(packed, {rows, 3 * width});
    const ConstTensorView k = all.flat(width, rows * 3 * width - width);
    const ConstTensorView v = all.flat(2 * width, rows * 3 * width - 2 * width);
    ops_->cached_self_attention(
        *queue_, {.rows = rows,
                  .capacity = capacity,
                  .heads = heads,
                  .head_size = head_size,
                  .position = at_position(position),
                  .q = all,
                  .k = k,
                  .v = v,
                  .stride = 3 * width,
                  .cache_k = writable(cache_k, cache),
                  .cache_v = writable(cache_v, cache),
                  .ancestry = view(ancestry, {rows, capacity}),
                  .bias = {.table = view(bias, {32, heads}), .bidirectional = false, .max_distance = 128},
                  .out = writable(self, {rows, width})});
    ops_->cached_cross_attention(*queue_, {.keys = {.offsets = view(offsets, {3}),
                                                    .row_sample = {},
                                                    .row_position = {},
                                                    .count = 2,
                                                    .rows = rows,
                                                    .longest = 2},
                                           .rows = rows,
                                           .heads = heads,
                                           .head_size = head_size,
                                           .q = all.flat(0, rows * width).reshape({rows, width}),
                                           .k = k,
                                           .v = v,
                                           .row_sequence = view(row_sequence, {rows}),
                                           .k_stride = 3 * width,
                                           .v_stride = 3 * width,
                                           .out = writable(cross, {rows, width})});
    queue_->synchronize();
    return std::tuple(cache_k, self, cross);
  };

  const auto [half_cache, half_self, half_cross] =
      run(qkv, table, history, std::vector<BFloat16>(static_cast<std::size_t>(rows * width)));

  const auto [cache_k, self, cross] =
      run(widened(qkv), widened(table), widened(history), std::vector<float>(static_cast<std::size_t>(rows * width)));
  EXPECT_EQ(widened(half_cache), cache_k);
  EXPECT_EQ(half_self, halves(self));
  EXPECT_EQ(half_cross, halves(cross));
}

INSTANTIATE_TEST_SUITE_P(Shapes, CachedAttention,
                         testing::Values(HeadShape{1, 1, 0}, HeadShape{2, 3, 4}, HeadShape{3, 12, 16},
                                         HeadShape{2, 16, 31}, HeadShape{2, 20, 70}));

}  // namespace
}  // namespace spillway::kernels
