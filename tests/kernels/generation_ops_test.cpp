// SPDX-License-Identifier: Apache-2.0
#include "kernels/generation_ops.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <tuple>
#include <utility>
#include <vector>

#include <gmock/gmock.h>

#include "core/error.hpp"
#include "core/philox.hpp"
#include "kernels/cpu/attention.hpp"
#include "kernels/cpu/cpu_kernels.hpp"
#include "kernels/cpu/thread_pool.hpp"
#include "kernels/kernel_fixtures.hpp"

namespace spillway::kernels {
namespace {

using test::at_position;
using testing::ElementsAre;
using testing::FloatNear;
using testing::HasSubstr;
using testing::Pointwise;
using testing::ThrowsMessage;

std::vector<float> random_values(std::int64_t count, std::uint64_t stream) {
  PhiloxStream random(3, stream);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = random.normal();
  return values;
}

template <typename T>
ConstTensorView view(const std::vector<T>& values, const Shape& shape) {
  return {std::span<const T>(values), shape};
}
template <typename T>
TensorView writable(std::vector<T>& values, const Shape& shape) {
  return {std::span(values), shape};
}

class GenerationOpsTest : public testing::Test {
 protected:
  std::shared_ptr<cpu::ThreadPool> pool_ = std::make_shared<cpu::ThreadPool>(3);
  std::unique_ptr<GenerationOps> ops_ = cpu::make_generation_ops(pool_);
  std::unique_ptr<Device> host_ = make_host_device();
  std::unique_ptr<Queue> queue_ = host_->create_compute_queue();
};

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

struct Best {
  std::vector<float> scores;
  std::vector<std::int32_t> rows, tokens;
};

Best top(GenerationOps& ops, Queue& queue, std::int64_t items, std::int64_t beams, std::int64_t count,
         const std::vector<float>& logits, const std::vector<float>& row_scores) {
  const auto size = static_cast<std::size_t>(items * count);
  Best best{std::vector<float>(size), std::vector<std::int32_t>(size), std::vector<std::int32_t>(size)};
  const std::int64_t rows = items * beams;
  ops.top_continuations(queue, {.items = items,
                                .beams = beams,
                                .count = count,
                                .logits = view(logits, {rows, static_cast<std::int64_t>(logits.size()) / rows}),
                                .row_scores = view(row_scores, {rows}),
                                .scores = writable(best.scores, {items, count}),
                                .rows = writable(best.rows, {items, count}),
                                .tokens = writable(best.tokens, {items, count})});
  return best;
}

TEST_F(GenerationOpsTest, TopContinuationsAreTheHeadOfASort) {
  const std::int64_t items = 3;
  const std::int64_t beams = 4;
  for (const std::int64_t vocabulary : {5, 16, 1024, 1025, 4099}) {
    const std::vector<float> logits = random_values(items * beams * vocabulary, static_cast<std::uint64_t>(vocabulary));
    const std::vector<float> row_scores = random_values(items * beams, 9);
    const std::int64_t count = 8;

    const Best best = top(*ops_, *queue_, items, beams, count, logits, row_scores);

    for (std::int64_t item = 0; item < items; ++item) {
      std::vector<std::tuple<double, std::int64_t, std::int64_t>> all;
      for (std::int64_t row = item * beams; row < (item + 1) * beams; ++row) {
        const auto begin = logits.begin() + row * vocabulary;
        double sum = 0.0;
        for (auto x = begin; x != begin + vocabulary; ++x) sum += std::exp(double{*x});
        for (std::int64_t token = 0; token < vocabulary; ++token) {
          all.emplace_back(-(double{row_scores[static_cast<std::size_t>(row)]} + double{begin[token]} - std::log(sum)),
                           row, token);
        }
      }
      std::sort(all.begin(), all.end());
      for (std::int64_t c = 0; c < count; ++c) {
        const auto at = static_cast<std::size_t>(item * count + c);
        const auto& [negative, row, token] = all[static_cast<std::size_t>(c)];
        EXPECT_NEAR(best.scores[at], -negative, 1e-5);
        EXPECT_EQ(best.rows[at], row) << "item " << item << ", place " << c << " of " << vocabulary;
        EXPECT_EQ(best.tokens[at], token);
      }
    }
  }
}

TEST_F(GenerationOpsTest, TiesGoToTheSmallerRowThenTheSmallerToken) {
  std::vector<float> logits(2 * 6, 0.0F);
  logits[4] = logits[5] = logits[6 + 1] = logits[6 + 4] = 2.0F;

  const Best best = top(*ops_, *queue_, 1, 2, 6, logits, {-1.0F, -1.0F});

  EXPECT_THAT(best.rows, ElementsAre(0, 0, 1, 1, 0, 0));
  EXPECT_THAT(best.tokens, ElementsAre(4, 5, 1, 4, 0, 1));
}

TEST_F(GenerationOpsTest, TiesAreKeptAcrossALargeVocabulary) {
  const std::int64_t vocabulary = 250112;
  std::vector<float> logits(static_cast<std::size_t>(vocabulary), -3.0F);
  for (const std::size_t token : {1023U, 1024U, 5000U, 250111U}) logits[token] = 8.0F;

  const Best best = top(*ops_, *queue_, 1, 1, 6, logits, {0.0F});

  EXPECT_THAT(best.tokens, ElementsAre(1023, 1024, 5000, 250111, 0, 1));
  EXPECT_NEAR(best.scores[0], -std::log(4.0 + (static_cast<double>(vocabulary) - 4.0) * std::exp(-11.0)), 1e-5);
}

TEST_F(GenerationOpsTest, EveryContinuationCanBeAskedFor) {
  const Best best = top(*ops_, *queue_, 1, 2, 6, {0.0F, 1.0F, 2.0F, 0.0F, 1.0F, 2.0F}, {0.0F, -1e9F});

  EXPECT_THAT(best.rows, ElementsAre(0, 0, 0, 1, 1, 1));
  EXPECT_THAT(best.tokens, ElementsAre(2, 1, 0, 0, 1, 2));  // next to -1e9 a logit is below fp32's resolution: a tie
}

TEST_F(GenerationOpsTest, ForbiddenTokensComeLast) {
  const float none = -std::numeric_limits<float>::infinity();

  const Best best = top(*ops_, *queue_, 1, 1, 3, {none, 0.0F, none, none}, {0.0F});

  EXPECT_THAT(best.tokens, ElementsAre(1, 0, 2));
  EXPECT_THAT(best.scores, ElementsAre(0.0F, none, none));
}

TEST_F(GenerationOpsTest, BitsOfTopContinuationsDoNotDependOnThreads) {
  const std::vector<float> logits = random_values(8 * 3001, 21);
  const std::vector<float> row_scores = random_values(8, 22);
  const auto alone = cpu::make_generation_ops(std::make_shared<cpu::ThreadPool>(1));

  const Best one = top(*alone, *queue_, 2, 4, 8, logits, row_scores);
  const Best three = top(*ops_, *queue_, 2, 4, 8, logits, row_scores);

  EXPECT_EQ(one.scores, three.scores);
  EXPECT_EQ(one.tokens, three.tokens);
}

TEST_F(GenerationOpsTest, LogitsThatAreNotFiniteAreAnErrorThatNamesTheRow) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    std::vector<float> logits(3 * 20, 0.0F);
    logits[2 * 20 + 7] = bad;
    EXPECT_THAT(
        [&] {
          (void)top(*ops_, *queue_, 3, 1, 2, logits, {0.0F, 0.0F, 0.0F});
        },
        ThrowsMessage<DataError>(HasSubstr("row 2")));
  }
}

TEST_F(GenerationOpsTest, WrongShapesAreRefusedWithBoth) {
  std::vector<float> floats(64);
  std::vector<std::int32_t> ints(64);
  const auto matrix = [&](std::int64_t rows, std::int64_t columns) {
    return TensorView(std::span(floats).first(static_cast<std::size_t>(rows * columns)), {rows, columns});
  };
  const auto cache = [&](std::int64_t rows) {
    return TensorView(std::span(floats).first(static_cast<std::size_t>(rows * 8)), {rows, 4, 2});
  };
  const auto ids = [&](std::int64_t rows, std::int64_t columns) {
    return TensorView(std::span(ints).first(static_cast<std::size_t>(rows * columns)), {rows, columns});
  };

  CachedSelfAttention self{.rows = 2,
                           .capacity = 4,
                           .heads = 1,
                           .head_size = 2,
                           .position = at_position(4),
                           .q = matrix(2, 2),
                           .k = matrix(2, 2),
                           .v = matrix(2, 2),
                           .stride = 2,
                           .cache_k = cache(2),
                           .cache_v = cache(2),
                           .ancestry = ids(2, 4),
                           .bias = {},
                           .out = matrix(2, 2)};
  EXPECT_THAT([&] { ops_->cached_self_attention(*queue_, self); },
              ThrowsMessage<Error>(HasSubstr("a position below the capacity of 4 is needed, found 4")));
  self.cache_k = cache(3);
  EXPECT_THAT([&] { ops_->cached_self_attention(*queue_, self); },
              ThrowsMessage<Error>(HasSubstr("cache_k must be f32 (2, 4, 2), got f32 (3, 4, 2)")));

  const CachedCrossAttention cross{.keys = {.offsets = ids(1, 3).reshape({3}),
                                            .row_sample = {},
                                            .row_position = {},
                                            .count = 2,
                                            .rows = 2,
                                            .longest = 1},
                                   .rows = 2,
                                   .heads = 1,
                                   .head_size = 2,
                                   .q = matrix(2, 2),
                                   .k = matrix(2, 2),
                                   .v = matrix(2, 2),
                                   .row_sequence = ids(1, 3).reshape({3}),
                                   .k_stride = 2,
                                   .v_stride = 2,
                                   .out = matrix(2, 2)};
  EXPECT_THAT([&] { ops_->cached_cross_attention(*queue_, cross); },
              ThrowsMessage<Error>(HasSubstr("row_sequence must be i32 (2)")));

  const TopContinuations too_many{.items = 1,
                                  .beams = 2,
                                  .count = 7,
                                  .logits = matrix(2, 3),
                                  .row_scores = matrix(1, 2).reshape({2}),
                                  .scores = matrix(1, 7),
                                  .rows = ids(1, 7),
                                  .tokens = ids(1, 7)};
  EXPECT_THAT([&] { ops_->top_continuations(*queue_, too_many); },
              ThrowsMessage<Error>(HasSubstr("a count of 1 to beams times vocabulary")));
}

}  // namespace
}  // namespace spillway::kernels
