// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <vector>

#include "core/philox.hpp"
#include "kernels/cpu/log_softmax.hpp"
#include "kernels/cpu/process_scores.hpp"
#include "kernels/cpu/top_continuations.hpp"
#include "kernels/cuda/generation_fixture.hpp"
#include "kernels/cuda/process_scores.hpp"
#include "kernels/cuda/top_continuations.hpp"
#include "kernels/state_fixtures.hpp"
#include "kernels/vector_views.hpp"

namespace spillway::kernels::cuda {
namespace {

using test::GenerationOnGpu;
using test::normals;
using test::view;
using test::writable;

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
      const std::vector<std::int32_t> position = {static_cast<std::int32_t>(length - 1)};
      ProcessScores op{.rows = rows,
                       .capacity = capacity,
                       .position = view(position, {1}),
                       .tokens = view(tokens, {rows, capacity}),
                       .ancestry = view(ancestry, {rows, capacity}),
                       .repetition_penalty = 1.3F,
                       .no_repeat_ngram_size = ngram,
                       .min_length = 5,
                       .scores = writable(expected, {rows, vocabulary})};
      cpu::process_scores(pool, op);
      op.position = on_gpu(op.position);
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
  const std::int64_t items = 3;
  struct Size {
    std::int64_t vocabulary, beams;
  };
  for (const auto& [vocabulary, beams] :
       {Size{5, 4}, Size{1024, 4}, Size{32128, 4}, Size{32768, 1}, Size{40000, 4}, Size{1000, 20}})
    for (const bool ties : {false, true}) {
      const std::int64_t count = 2 * beams, rows = items * beams;
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
