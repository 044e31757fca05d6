// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <string>
#include <type_traits>

#include "core/philox.hpp"
#include "kernels/cpu/advance_beams.hpp"
#include "kernels/cpu/cached_attention.hpp"
#include "kernels/cpu/log_softmax.hpp"
#include "kernels/cpu/process_scores.hpp"
#include "kernels/cpu/top_continuations.hpp"
#include "kernels/cuda/advance_beams.hpp"
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

/// The same numbers in the storage type.
template <typename T>
std::vector<T> stored(const std::vector<float>& values) {
  if constexpr (std::is_same_v<T, float>) {
    return values;
  } else {
    std::vector<T> halves;
    for (const float value : values) halves.push_back({bf16_from_float(value)});
    return halves;
  }
}

/// Within 1e-5, or in bf16 within a rounding.
template <typename T>
void expect_near(const std::vector<T>& found, const std::vector<T>& expected, const std::string& what) {
  for (std::size_t i = 0; i < found.size(); ++i) {
    if constexpr (std::is_same_v<T, float>) {
      ASSERT_NEAR(found[i], expected[i], 1e-5F) << what << " " << i;
    } else {
      const float wanted = float_from_bf16(expected[i].bits);
      ASSERT_NEAR(float_from_bf16(found[i].bits), wanted, std::max(1e-3F, std::abs(wanted) / 127)) << what << " " << i;
    }
  }
}

template <typename T>
class CachedAttentionOnGpu : public GenerationOnGpu {};
using Stored = testing::Types<float, BFloat16>;
TYPED_TEST_SUITE(CachedAttentionOnGpu, Stored);

TYPED_TEST(CachedAttentionOnGpu, SelfAttention_IsTheCpus) {
  using T = TypeParam;
  cpu::ThreadPool pool(2);
  struct Size {
    std::int64_t heads, head_size, at, pad;  // pad: elements between the queries of two rows
  };
  for (const auto& [heads, head_size, at, pad] :
       {Size{1, 1, 0, 3}, Size{3, 12, 16, 3}, Size{2, 64, 700, 3}, Size{2, 20, 70, 3}, Size{2, 64, 700, 8},
        Size{3, 64, 0, 0}, Size{2, 64, 127, 16}, Size{2, 128, 45, 8}, Size{1, 32, 5, 8}, Size{1, 256, 131, 0},
        // Enough heads for a warp each.
        Size{211, 64, 40, 8}, Size{208, 128, 16, 0}, Size{205, 64, 0, 0}}) {
    const std::int64_t rows = 5, capacity = at + 2, width = heads * head_size;
    const Shape cache{rows, capacity, width};
    const auto elements = static_cast<std::size_t>(rows * capacity * width);
    const std::vector<T> q = stored<T>(normals(static_cast<std::size_t>(rows * (width + pad)), 1));
    std::vector<T> k = stored<T>(normals(elements, 2)), v = stored<T>(normals(elements, 3));
    std::vector<T> k_found = k, v_found = v;
    const std::vector<T> new_k = stored<T>(normals(q.size(), 5)), new_v = stored<T>(normals(q.size(), 6));
    const std::vector<T> table = stored<T>(normals(static_cast<std::size_t>(32 * heads), 4));
    const std::vector<std::int32_t> position = {static_cast<std::int32_t>(at)};
    std::vector<std::int32_t> ancestry(static_cast<std::size_t>(rows * capacity));
    for (std::size_t i = 0; i < ancestry.size(); ++i) ancestry[i] = static_cast<std::int32_t>(i * 7 % 5);
    std::vector<T> expected(static_cast<std::size_t>(rows * width)), found(expected.size());
    CachedSelfAttention op{.rows = rows,
                           .capacity = capacity,
                           .heads = heads,
                           .head_size = head_size,
                           .position = view(position, {1}),
                           .q = view(q, {rows, width + pad}),
                           .k = view(new_k, {rows, width + pad}),
                           .v = view(new_v, {rows, width + pad}),
                           .stride = width + pad,
                           .cache_k = writable(k, cache),
                           .cache_v = writable(v, cache),
                           .ancestry = view(ancestry, {rows, capacity}),
                           .bias = {.table = view(table, {32, heads}), .bidirectional = false, .max_distance = 128},
                           .out = writable(expected, {rows, width})};
    cpu::cached_self_attention(pool, op);
    op.position = this->on_gpu(op.position);
    op.q = this->on_gpu(op.q);
    op.k = this->on_gpu(op.k);
    op.v = this->on_gpu(op.v);
    op.cache_k = this->on_gpu(writable(k_found, cache));
    op.cache_v = this->on_gpu(writable(v_found, cache));
    op.ancestry = this->on_gpu(op.ancestry);
    op.bias.table = this->on_gpu(op.bias.table);
    op.out = this->on_gpu(writable(found, {rows, width}));

    cached_self_attention(this->stream_, op);

    this->collect();
    expect_near(found, expected, "head size " + std::to_string(head_size));
    EXPECT_EQ(k_found, k);
    EXPECT_EQ(v_found, v);
  }
}

TYPED_TEST(CachedAttentionOnGpu, CrossAttention_IsTheCpus_HoweverManyRowsShareASequence) {
  using T = TypeParam;
  cpu::ThreadPool pool(2);
  const std::vector<std::int32_t> offsets = {0, 1, 38, 166};
  for (const std::int64_t head_size : {12, 32, 64, 128, 256})
    for (const std::int64_t beams : {1, 2, 3, 4, 6}) {
      const std::int64_t heads = head_size == 64 && beams >= 4 ? 350 : 3;  // of the former enough for a warp each
      const std::int64_t width = heads * head_size, rows = 3 * beams, keys = offsets.back();
      const std::vector<T> q = stored<T>(normals(static_cast<std::size_t>(rows * width), 1));
      const std::vector<T> kv = stored<T>(normals(static_cast<std::size_t>(keys * 2 * width), 2));
      std::vector<std::int32_t> sequences;
      for (std::int64_t row = 0; row < rows; ++row) sequences.push_back(static_cast<std::int32_t>(row / beams));
      std::vector<T> expected(q.size()), found(q.size());
      const auto op = [&](const ConstTensorView& packed, const TensorView& out) {
        return CachedCrossAttention{
            .keys = {.offsets = view(offsets, {4}),
                     .row_sample = {},
                     .row_position = {},
                     .count = 3,
                     .rows = keys,
                     .longest = 128},
            .rows = rows,
            .heads = heads,
            .head_size = head_size,
            .q = view(q, {rows, width}),
            .k = packed,
            .v = {packed.data() + static_cast<std::size_t>(width) * sizeof(T), packed.dtype(), packed.shape()},
            .row_sequence = view(sequences, {rows}),
            .k_stride = 2 * width,
            .v_stride = 2 * width,
            .out = out};
      };
      cpu::cached_cross_attention(pool, op(view(kv, {keys, 2 * width}), writable(expected, {rows, width})));
      CachedCrossAttention on_gpu =
          op(this->on_gpu(view(kv, {keys, 2 * width})), this->on_gpu(writable(found, {rows, width})));
      on_gpu.keys.offsets = this->on_gpu(on_gpu.keys.offsets);
      on_gpu.q = this->on_gpu(on_gpu.q);
      on_gpu.row_sequence = this->on_gpu(on_gpu.row_sequence);

      cached_cross_attention(this->stream_, on_gpu);

      this->collect();
      expect_near(found, expected, std::to_string(head_size) + " of " + std::to_string(beams) + " beams");
    }
}

TEST_F(GenerationOnGpu, CachedCrossAttention_InF16_IsTheCpusF32OfTheSameNumbers_RoundedOnce) {
  cpu::ThreadPool pool(2);
  const std::vector<std::int32_t> offsets = {0, 1, 38, 166}, sequences = {0, 0, 1, 1, 2, 2};
  for (const std::int64_t head_size : {12, 64, 128}) {
    const std::int64_t heads = 3, width = heads * head_size, rows = 6, keys = offsets.back();
    const auto q = in_f16(normals(static_cast<std::size_t>(rows * width), 1));
    const auto k = in_f16(normals(static_cast<std::size_t>(keys * width), 2));
    const auto v = in_f16(normals(static_cast<std::size_t>(keys * width), 3));
    const auto wide_q = widened(q), wide_k = widened(k), wide_v = widened(v);
    std::vector<float> expected(q.size());
    std::vector<std::uint16_t> found(q.size(), 0x7e00);
    CachedCrossAttention op{.keys = {.offsets = view(offsets, {4}),
                                     .row_sample = {},
                                     .row_position = {},
                                     .count = 3,
                                     .rows = keys,
                                     .longest = 128},
                            .rows = rows,
                            .heads = heads,
                            .head_size = head_size,
                            .q = view(wide_q, {rows, width}),
                            .k = view(wide_k, {keys, width}),
                            .v = view(wide_v, {keys, width}),
                            .row_sequence = view(sequences, {rows}),
                            .k_stride = width,
                            .v_stride = width,
                            .out = writable(expected, {rows, width})};
    cpu::cached_cross_attention(pool, op);
    op.keys.offsets = on_gpu(op.keys.offsets);
    op.q = on_gpu(f16(q, {rows, width}));
    op.k = on_gpu(f16(k, {keys, width}));
    op.v = on_gpu(f16(v, {keys, width}));
    op.row_sequence = on_gpu(op.row_sequence);
    op.out = on_gpu(TensorView(reinterpret_cast<std::byte*>(found.data()), DType::f16, {rows, width}));

    cached_cross_attention(stream_, op);

    collect();
    for (std::size_t i = 0; i < found.size(); ++i)
      ASSERT_NEAR(float_from_f16(found[i]), expected[i], 1e-5F + std::abs(expected[i]) / 2000.0F)
          << head_size << " " << i;
  }
}

/// AdvanceBeams in one piece of memory, wherever that is.
struct Beams {
  std::int64_t items, beams, capacity;
  std::size_t bytes = 0;

  AdvanceBeams in(std::byte* memory) {
    bytes = 0;
    const auto take = [&](const Shape& shape, DType dtype) {
      const TensorView tensor(memory + bytes, dtype, shape);
      bytes += (tensor.bytes() + 15) / 16 * 16;
      return tensor;
    };
    const std::int64_t rows = items * beams;
    AdvanceBeams op{.items = items, .beams = beams, .count = 2 * beams, .capacity = capacity, .max_length = capacity};
    op.scores = take({items, op.count}, DType::f32);
    op.rows = take({items, op.count}, DType::i32);
    op.tokens = take({items, op.count}, DType::i32);
    op.divisors = take({capacity}, DType::f64);
    op.stop = take({1}, DType::i32);
    BeamState& s = op.state;
    s.clock = take({BeamState::kClockEntries}, DType::i32);
    s.tokens = take({rows}, DType::i32);
    s.parents = take({rows}, DType::i32);
    s.row_scores = take({rows}, DType::f32);
    s.ancestry = take({rows, capacity}, DType::i32);
    s.token_cache = take({rows, capacity}, DType::i32);
    s.done = take({items}, DType::i32);
    s.finished_count = take({items}, DType::i32);
    s.finished_scores = take({items, beams}, DType::f64);
    s.finished_slot = take({items, beams}, DType::i32);
    s.finished_length = take({items, beams}, DType::i32);
    s.finished_source = take({items, beams}, DType::i32);
    s.finished_tokens = take({items, beams, capacity}, DType::i32);
    return op;
  }
};

TEST_F(GenerationOnGpu, AdvanceBeams_HasTheCpusBitsAtEveryStep) {
  for (const EarlyStopping early : {EarlyStopping::no, EarlyStopping::yes, EarlyStopping::never})
    for (const std::int64_t beams : {1, 2, 4, 200}) {
      Beams sizes{.items = 7, .beams = beams, .capacity = 150};
      static_cast<void>(sizes.in(nullptr));
      std::vector<std::byte> memory(sizes.bytes, std::byte{0});
      AdvanceBeams op = sizes.in(memory.data());
      op.early_stopping = early;
      const auto divisors = TensorView(const_cast<std::byte*>(op.divisors.data()), DType::f64, {150}).as<double>();
      for (std::size_t i = 0; i < divisors.size(); ++i) divisors[i] = std::pow(static_cast<double>(i), 0.7);
      for (std::int64_t row = 0; row < sizes.items * beams; ++row)
        op.state.ancestry.as<std::int32_t>()[static_cast<std::size_t>(row * 150)] = static_cast<std::int32_t>(row);
      std::byte* const gpu = allocate(memory.size());
      const auto copy = [&](std::byte* to, const std::byte* from, std::size_t bytes) {
        spillway::cuda::check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream_), "cudaMemcpyAsync");
        spillway::cuda::check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
      };
      copy(gpu, memory.data(), memory.size());
      AdvanceBeams on_gpu = sizes.in(gpu);
      on_gpu.early_stopping = early;
      PhiloxStream draws(9, static_cast<std::uint64_t>(beams));
      const std::size_t given = static_cast<std::size_t>(sizes.items * op.count) * 4;  // of each of the candidates
      for (int step = 0; step < 152; ++step) {
        auto* const scores = reinterpret_cast<float*>(memory.data());
        auto* const rows = reinterpret_cast<std::int32_t*>(const_cast<std::byte*>(op.rows.data()));
        auto* const tokens = reinterpret_cast<std::int32_t*>(const_cast<std::byte*>(op.tokens.data()));
        for (std::int64_t item = 0; item < sizes.items; ++item)
          for (std::int64_t c = 0; c < op.count; ++c) {
            const std::int64_t i = item * op.count + c;
            scores[i] = -0.3F * static_cast<float>(step) - 0.25F * static_cast<float>(c / 2);
            rows[i] = static_cast<std::int32_t>(
                item * beams + static_cast<std::int64_t>(draws.below(static_cast<std::uint32_t>(beams))));
            // Items end at very different times.
            tokens[i] = draws.below(static_cast<std::uint32_t>(4 << item)) == 0 ? 1 : 2 + static_cast<int>(i);
          }
        copy(gpu, memory.data(), 3 * ((given + 15) / 16 * 16));

        cpu::advance_beams(op);
        advance_beams(stream_, on_gpu);

        std::vector<std::byte> found(memory.size());
        copy(found.data(), gpu, found.size());
        ASSERT_EQ(found, memory) << beams << " beams, step " << step;
      }
      EXPECT_EQ(op.stop.as<std::int32_t>()[0], 1);
    }
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
