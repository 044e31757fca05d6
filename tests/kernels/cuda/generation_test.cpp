// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "core/philox.hpp"
#include "kernels/cpu/cached_attention.hpp"
#include "kernels/cpu/log_softmax.hpp"
#include "kernels/cpu/process_scores.hpp"
#include "kernels/cpu/top_continuations.hpp"
#include "kernels/cuda/cached_attention.hpp"
#include "kernels/cuda/gpu_copies.hpp"
#include "kernels/cuda/process_scores.hpp"
#include "kernels/cuda/top_continuations.hpp"
#include "kernels/state_fixtures.hpp"

namespace spillway::kernels::cuda {
namespace {

using test::normals;

template <typename T>
ConstTensorView view(const std::vector<T>& values, const Shape& shape) {
  return {std::span<const T>(values), shape};
}
template <typename T>
TensorView writable(std::vector<T>& values, const Shape& shape) {
  return {std::span(values), shape};
}

std::vector<std::uint16_t> in_f16(const std::vector<float>& values) {
  std::vector<std::uint16_t> halves;
  for (const float value : values) halves.push_back(f16_from_float(value));
  return halves;
}
std::vector<float> widened(const std::vector<std::uint16_t>& halves) {
  std::vector<float> values;
  for (const std::uint16_t half : halves) values.push_back(float_from_f16(half));
  return values;
}
ConstTensorView f16(const std::vector<std::uint16_t>& halves, const Shape& shape) {
  return {reinterpret_cast<const std::byte*>(halves.data()), DType::f16, shape};
}

class GenerationOnGpu : public test::GpuTest {
 protected:
  NoDistribution* failure() {
    auto* const failure = reinterpret_cast<NoDistribution*>(allocate(sizeof(NoDistribution)));
    spillway::cuda::check(cudaMemsetAsync(failure, 0xFF, sizeof(NoDistribution), stream_), "cudaMemsetAsync");
    return failure;
  }
};

TEST_F(GenerationOnGpu, CachedSelfAttention_IsTheCpusWithin1e5) {
  cpu::ThreadPool pool(2);
  struct Size {
    std::int64_t heads, head_size, position;
  };
  for (const auto& [heads, head_size, position] : {Size{1, 1, 0}, Size{3, 12, 16}, Size{2, 64, 700}, Size{2, 20, 70}}) {
    const std::int64_t rows = 5, capacity = position + 2, width = heads * head_size;
    const Shape cache{rows, capacity, width};
    const auto elements = static_cast<std::size_t>(rows * capacity * width);
    const std::vector<float> q = normals(static_cast<std::size_t>(rows * (width + 3)), 1);
    std::vector<float> k = normals(elements, 2), v = normals(elements, 3);
    const std::vector<float> table = normals(static_cast<std::size_t>(32 * heads), 4);
    std::vector<std::int32_t> ancestry(static_cast<std::size_t>(rows * capacity));
    for (std::size_t i = 0; i < ancestry.size(); ++i) ancestry[i] = static_cast<std::int32_t>(i * 7 % 5);
    std::vector<float> expected(static_cast<std::size_t>(rows * width)), found(expected.size(), NAN);
    CachedSelfAttention op{.rows = rows,
                           .capacity = capacity,
                           .position = position,
                           .heads = heads,
                           .head_size = head_size,
                           .q = view(q, {rows, width + 3}),
                           .q_stride = width + 3,
                           .cache_k = view(k, cache),
                           .cache_v = view(v, cache),
                           .ancestry = view(ancestry, {rows, capacity}),
                           .bias = {.table = view(table, {32, heads}), .bidirectional = false, .max_distance = 128},
                           .out = writable(expected, {rows, width})};
    cpu::cached_self_attention(pool, op);
    op.q = on_gpu(op.q);
    op.cache_k = on_gpu(op.cache_k);
    op.cache_v = on_gpu(op.cache_v);
    op.ancestry = on_gpu(op.ancestry);
    op.bias.table = on_gpu(op.bias.table);
    op.out = on_gpu(writable(found, {rows, width}));

    cached_self_attention(stream_, op);

    collect();
    for (std::size_t i = 0; i < found.size(); ++i) ASSERT_NEAR(found[i], expected[i], 1e-5F) << head_size << " " << i;
  }
}

TEST_F(GenerationOnGpu, CachedAttention_InF16_IsTheCpusF32OfTheSameNumbers_RoundedOnce) {
  cpu::ThreadPool pool(2);
  const std::int64_t rows = 3, heads = 2, head_size = 20, position = 70, capacity = 72, width = heads * head_size;
  const Shape cache{rows, capacity, width};
  const auto elements = static_cast<std::size_t>(rows * capacity * width);
  const auto q = in_f16(normals(static_cast<std::size_t>(rows * width), 1)), table = in_f16(normals(32 * heads, 4));
  const auto k = in_f16(normals(elements, 2)), v = in_f16(normals(elements, 3));
  const auto wide_q = widened(q), wide_k = widened(k), wide_v = widened(v), wide_table = widened(table);
  std::vector<std::int32_t> ancestry(static_cast<std::size_t>(rows * capacity), 1);
  std::vector<float> expected(static_cast<std::size_t>(rows * width));
  std::vector<std::uint16_t> found(expected.size(), 0x7e00);
  CachedSelfAttention op{.rows = rows,
                         .capacity = capacity,
                         .position = position,
                         .heads = heads,
                         .head_size = head_size,
                         .q = view(wide_q, {rows, width}),
                         .q_stride = width,
                         .cache_k = view(wide_k, cache),
                         .cache_v = view(wide_v, cache),
                         .ancestry = view(ancestry, {rows, capacity}),
                         .bias = {.table = view(wide_table, {32, heads}), .bidirectional = false, .max_distance = 128},
                         .out = writable(expected, {rows, width})};
  cpu::cached_self_attention(pool, op);
  op.q = on_gpu(f16(q, {rows, width}));
  op.cache_k = on_gpu(f16(k, cache));
  op.cache_v = on_gpu(f16(v, cache));
  op.ancestry = on_gpu(op.ancestry);
  op.bias.table = on_gpu(f16(table, {32, heads}));
  op.out = on_gpu(TensorView(reinterpret_cast<std::byte*>(found.data()), DType::f16, {rows, width}));

  cached_self_attention(stream_, op);

  collect();
  for (std::size_t i = 0; i < found.size(); ++i)
    ASSERT_NEAR(float_from_f16(found[i]), expected[i], 1e-5F + std::abs(expected[i]) / 2000.0F) << i;
}

TEST_F(GenerationOnGpu, LogSoftmax_IsTheCpusWithin1e5_AndReportsNaN) {
  cpu::ThreadPool pool(2);
  for (const std::int64_t vocabulary : {1, 37, 32128}) {
    std::vector<float> expected = normals(static_cast<std::size_t>(3 * vocabulary), 1), found = expected;
    const std::vector<float> given = expected;
    cpu::log_softmax(pool, {.rows = 3, .scores = writable(expected, {3, vocabulary})});

    NoDistribution* const none = failure();
    log_softmax(stream_, {.rows = 3, .scores = on_gpu(writable(found, {3, vocabulary}))}, none);

    collect();
    for (std::size_t i = 0; i < found.size(); ++i) ASSERT_NEAR(found[i], expected[i], 1e-5F) << vocabulary;

    std::vector<float> bad = given;
    bad.back() = NAN;
    std::vector<NoDistribution> seen(1);
    log_softmax(stream_, {.rows = 3, .scores = on_gpu(writable(bad, {3, vocabulary}))}, none);
    collect();
    spillway::cuda::check(cudaMemcpy(seen.data(), none, sizeof(NoDistribution), cudaMemcpyDeviceToHost), "cudaMemcpy");
    EXPECT_EQ(seen[0].row, 2);
  }
}

TEST_F(GenerationOnGpu, ProcessScores_IsTheCpus) {
  cpu::ThreadPool pool(2);
  const std::int64_t rows = 3, capacity = 600, vocabulary = 50;
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(rows * capacity)), ancestry(tokens.size());
  PhiloxStream draws(5, 6);
  for (auto& token : tokens) token = static_cast<std::int32_t>(draws.below(vocabulary));
  for (auto& row : ancestry) row = static_cast<std::int32_t>(draws.below(rows));
  for (const std::int64_t length : {1, 2, 9, 600})
    for (const std::int64_t ngram : {0, 1, 2, 3}) {
      std::vector<float> expected = normals(static_cast<std::size_t>(rows * vocabulary), 8), found = expected;
      ProcessScores op{.rows = rows,
                       .capacity = capacity,
                       .length = length,
                       .tokens = view(tokens, {rows, capacity}),
                       .ancestry = view(ancestry, {rows, capacity}),
                       .repetition_penalty = 1.3F,
                       .no_repeat_ngram_size = ngram,
                       .min_length = 5,
                       .scores = writable(expected, {rows, vocabulary})};
      cpu::process_scores(pool, op);
      op.tokens = on_gpu(op.tokens);
      op.ancestry = on_gpu(op.ancestry);
      op.scores = on_gpu(writable(found, {rows, vocabulary}));

      process_scores(stream_, op);

      collect();
      EXPECT_EQ(found, expected) << length << " " << ngram;
    }
}

TEST_F(GenerationOnGpu, TopContinuations_ChooseWhatTheCpuChooses) {
  cpu::ThreadPool pool(2);
  const std::int64_t items = 3, beams = 4;
  for (const std::int64_t vocabulary : {5, 1024, 32128})
    for (const bool ties : {false, true}) {
      const std::int64_t count = 8, rows = items * beams;
      std::vector<float> logits = normals(static_cast<std::size_t>(rows * vocabulary), 1);
      for (float& x : logits) x = ties ? -std::floor(x * x) : 4.0F * x;
      const std::vector<float> row_scores(static_cast<std::size_t>(rows), -1.0F);
      const auto size = static_cast<std::size_t>(items * count);
      std::vector<float> scores(size), scores_found(size, NAN);
      std::vector<std::int32_t> from(size), from_found(size, -1), tokens(size), tokens_found(size, -1);
      TopContinuations op{.items = items,
                          .beams = beams,
                          .count = count,
                          .normalised = ties,  // exact scores, of which many are equal
                          .logits = view(logits, {rows, vocabulary}),
                          .row_scores = view(row_scores, {rows}),
                          .scores = writable(scores, {items, count}),
                          .rows = writable(from, {items, count}),
                          .tokens = writable(tokens, {items, count})};
      cpu::top_continuations(pool, op);
      op.logits = on_gpu(op.logits);
      op.row_scores = on_gpu(op.row_scores);
      op.scores = on_gpu(writable(scores_found, {items, count}));
      op.rows = on_gpu(writable(from_found, {items, count}));
      op.tokens = on_gpu(writable(tokens_found, {items, count}));

      top_continuations(stream_, op, allocate(top_continuations_workspace_bytes(items, beams, count)), failure());

      collect();
      EXPECT_EQ(tokens_found, tokens) << vocabulary;
      EXPECT_EQ(from_found, from) << vocabulary;
      for (std::size_t i = 0; i < size; ++i) EXPECT_NEAR(scores_found[i], scores[i], 1e-5F);
    }
}

}  // namespace
}  // namespace spillway::kernels::cuda
