// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/attention.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <type_traits>
#include <vector>

#include <gmock/gmock.h>

#include "kernels/attention_reference.hpp"
#include "kernels/cpu/attention_workspace.hpp"

namespace spillway::kernels::cpu {
namespace {

constexpr float kUntouched = -12352.0F;  // in bf16 too

float number(float value) { return value; }
float number(BFloat16 value) { return float_from_bf16(value.bits); }

template <typename T>
T stored(double value) {
  if constexpr (std::is_same_v<T, float>) {
    return static_cast<float>(value);
  } else {
    return {bf16_from_float(static_cast<float>(value))};
  }
}

template <typename T>
std::vector<T> stored(const std::vector<double>& values) {
  std::vector<T> result;
  for (const double value : values) result.push_back(stored<T>(value));
  return result;
}

template <typename T>
std::vector<float> numbers(const std::vector<T>& values) {
  std::vector<float> result;
  for (const T value : values) result.push_back(number(value));
  return result;
}

/// One operand: `width` columns from `column` on of a matrix with `stride` columns.
template <typename T>
struct Columns {
  std::vector<T> memory;
  std::int64_t stride = 0, column = 0;

  [[nodiscard]] TensorView view() {
    const auto elements = static_cast<std::int64_t>(memory.size()) - column;
    return {reinterpret_cast<std::byte*>(memory.data() + column), dtype_of<T>, {elements}};
  }
  [[nodiscard]] bool inside(std::size_t i, std::int64_t width) const {
    const std::int64_t at = static_cast<std::int64_t>(i) % stride - column;
    return at >= 0 && at < width;
  }
};

template <typename T>
Columns<T> spread(const std::vector<double>& dense, std::int64_t width, std::int64_t stride, std::int64_t column) {
  Columns<T> columns{
      .memory = std::vector<T>(dense.size() / static_cast<std::size_t>(width) * static_cast<std::size_t>(stride),
                               stored<T>(kUntouched)),
      .stride = stride,
      .column = column};
  std::size_t next = 0;
  for (std::size_t i = 0; i < columns.memory.size(); ++i) {
    if (columns.inside(i, width)) columns.memory[i] = stored<T>(dense[next++]);
  }
  return columns;
}

template <typename T>
std::vector<float> gather(const Columns<T>& columns, std::int64_t width) {
  std::vector<float> dense;
  for (std::size_t i = 0; i < columns.memory.size(); ++i) {
    if (columns.inside(i, width)) {
      dense.push_back(number(columns.memory[i]));
    } else {
      EXPECT_EQ(number(columns.memory[i]), kUntouched) << "element " << i << " beside the rows was written";
    }
  }
  return dense;
}

/// The results of both ops.
struct Outcome {
  std::vector<float> out, lse, d_q, d_k, d_v, d_bias;
  friend bool operator==(const Outcome&, const Outcome&) = default;
};

constexpr double kBiasBefore = 2.0;  // what d_bias holds already

/// Both ops on values that are stored as T.
/// \param between  what happens to `out` before the backward pass
template <typename T = float>
Outcome run(
    const AttentionReference& reference, const AttentionValues& values, const std::vector<double>& d_out, int threads,
    const std::function<void(std::vector<T>& out)>& between = [](std::vector<T>&) {}) {
  ThreadPool pool(threads);
  const AttentionCase& shape = reference.shape;
  const std::int64_t width = reference.width();
  const std::int64_t q_stride = reference.self() ? 3 * width + 5 : width + 1;
  const std::int64_t k_stride = reference.self() ? q_stride : 2 * width;
  Columns<T> q = spread<T>(values.q, width, q_stride, 0);
  Columns<T> k = spread<T>(values.k, width, k_stride, reference.self() ? width : 0);
  Columns<T> v = spread<T>(values.v, width, k_stride, reference.self() ? 2 * width : width);
  const std::vector<T> table = stored<T>(values.table);
  const std::vector<T> dense_d_out = stored<T>(d_out);
  std::vector<T> out(dense_d_out.size(), stored<T>(std::numeric_limits<double>::quiet_NaN()));
  const auto nan = std::numeric_limits<double>::quiet_NaN();
  Columns<T> d_q = spread<T>(std::vector<double>(values.q.size(), nan), width, q_stride, q.column);
  Columns<T> d_k = spread<T>(std::vector<double>(values.k.size(), nan), width, k_stride, k.column);
  Columns<T> d_v = spread<T>(std::vector<double>(values.v.size(), nan), width, k_stride, v.column);
  Outcome outcome{.out = {},
                  .lse = std::vector<float>(static_cast<std::size_t>(reference.query_rows() * shape.heads),
                                            static_cast<float>(nan)),
                  .d_q = {},
                  .d_k = {},
                  .d_v = {},
                  .d_bias = std::vector<float>(table.size(), static_cast<float>(kBiasBefore))};

  const auto ids = [](const std::vector<std::int32_t>& list) {
    return ConstTensorView(std::span(list), {static_cast<std::int64_t>(list.size())});
  };
  const auto longest = [](const std::vector<std::int32_t>& lengths) {
    return std::int64_t{*std::max_element(lengths.begin(), lengths.end())};
  };
  const auto count = static_cast<std::int64_t>(shape.query_lengths.size());
  // Samples and positions only where dropout needs them: a job without dropout need not make them.
  const bool rows = shape.dropout > 0.0F;
  const PackedSequences queries{.offsets = ids(reference.query_offsets),
                                .row_sample = rows ? ids(reference.row_sample) : ConstTensorView(),
                                .row_position = rows ? ids(reference.row_position) : ConstTensorView(),
                                .count = count,
                                .rows = reference.query_rows(),
                                .longest = longest(shape.query_lengths)};
  const PackedSequences keys{.offsets = ids(reference.key_offsets),
                             .row_sample = {},
                             .row_position = {},
                             .count = count,
                             .rows = reference.key_rows(),
                             .longest = reference.self() ? queries.longest : longest(shape.key_lengths)};
  const Shape table_shape{reference.buckets, shape.heads};
  const RelativeBias bias{
      .table = shape.bias ? ConstTensorView(std::span<const T>(table), table_shape) : ConstTensorView(),
      .bidirectional = !shape.causal,
      .max_distance = reference.max_distance};
  const Attention op{.queries = queries,
                     .keys = keys,
                     .heads = shape.heads,
                     .head_size = shape.head_size,
                     .q = q.view(),
                     .k = k.view(),
                     .v = v.view(),
                     .q_stride = q_stride,
                     .k_stride = k_stride,
                     .v_stride = k_stride,
                     .bias = bias,
                     .causal = shape.causal,
                     .dropout = reference.dropout,
                     .out = {std::span(out), {reference.query_rows(), width}},
                     .log_sum_exp = {std::span(outcome.lse), {reference.query_rows(), shape.heads}}};
  attention(pool, op);
  outcome.out = numbers(out);
  between(out);
  attention_gradient(pool, {.forward = op,
                            .d_out = {std::span<const T>(dense_d_out), {reference.query_rows(), width}},
                            .d_q = d_q.view(),
                            .d_k = d_k.view(),
                            .d_v = d_v.view(),
                            .d_bias = shape.bias ? TensorView(std::span(outcome.d_bias), table_shape) : TensorView()});
  outcome.d_q = gather(d_q, width);
  outcome.d_k = gather(d_k, width);
  outcome.d_v = gather(d_v, width);
  return outcome;
}

void expect_near(const std::vector<float>& found, const std::vector<double>& expected, double tolerance,
                 const char* what) {
  ASSERT_EQ(found.size(), expected.size()) << what;
  double largest = 0.0;
  for (const double value : expected) largest = std::max(largest, std::abs(value));
  for (std::size_t i = 0; i < found.size(); ++i) {
    ASSERT_NEAR(static_cast<double>(found[i]), expected[i], tolerance * (1.0 + largest)) << what << ", element " << i;
  }
}

class AttentionOp : public testing::TestWithParam<AttentionCase> {
 protected:
  const AttentionReference reference_{GetParam()};
  const AttentionValues values_ = reference_.example_values();
  const std::vector<double> d_out_ = reference_.example_d_out();
};

TEST_P(AttentionOp, ForwardIsTheReference) {
  const Outcome found = run(reference_, values_, d_out_, 2);

  const AttentionResult expected = reference_.forward(values_);
  expect_near(found.out, expected.out, 2e-6, "out");
  expect_near(found.lse, expected.lse, 2e-6, "log_sum_exp");
}

TEST_P(AttentionOp, GradientIsTheReference) {
  const Outcome found = run(reference_, values_, d_out_, 2);

  AttentionValues expected = reference_.gradient(values_, d_out_);
  for (double& value : expected.table) value += kBiasBefore;
  expect_near(found.d_q, expected.q, 3e-6, "d_q");
  expect_near(found.d_k, expected.k, 3e-6, "d_k");
  expect_near(found.d_v, expected.v, 3e-6, "d_v");
  expect_near(found.d_bias, expected.table, 3e-6, "d_bias");
}

TEST_P(AttentionOp, GradientIsTheFiniteDifferenceOfTheForwardFormula) {
  const Outcome found = run(reference_, values_, d_out_, 2);
  const auto loss = [&](const AttentionValues& values) {
    const std::vector<double> out = reference_.forward(values).out;
    double sum = 0.0;
    for (std::size_t i = 0; i < out.size(); ++i) sum += out[i] * d_out_[i];
    return sum;
  };
  struct Operand {
    const char* name;
    std::vector<double> AttentionValues::*values;
    const std::vector<float>& gradient;
    double before;
  };
  for (const Operand& operand :
       {Operand{"q", &AttentionValues::q, found.d_q, 0.0}, Operand{"k", &AttentionValues::k, found.d_k, 0.0},
        Operand{"v", &AttentionValues::v, found.d_v, 0.0},
        Operand{"table", &AttentionValues::table, found.d_bias, kBiasBefore}}) {
    const std::size_t size = operand.gradient.size();
    for (std::size_t probe = 0; probe < 5; ++probe) {
      const std::size_t i = (probe * 7919 + 3) % size;
      constexpr double kStep = 1e-4;
      AttentionValues more = values_;
      AttentionValues less = values_;
      (more.*operand.values)[i] += kStep;
      (less.*operand.values)[i] -= kStep;

      const double slope = (loss(more) - loss(less)) / (2.0 * kStep);

      EXPECT_NEAR(static_cast<double>(operand.gradient[i]) - operand.before, slope, 1e-5 * (1.0 + std::abs(slope)))
          << operand.name << ", element " << i;
    }
  }
}

TEST_P(AttentionOp, BitsDoNotDependOnThreads) {
  EXPECT_EQ(run(reference_, values_, d_out_, 1), run(reference_, values_, d_out_, 3));
  EXPECT_EQ(run<BFloat16>(reference_, values_, d_out_, 1), run<BFloat16>(reference_, values_, d_out_, 3));
}

std::vector<double> rounded(const std::vector<double>& values) {
  const std::vector<float> result = numbers(stored<BFloat16>(values));
  return {result.begin(), result.end()};
}

/// One rounding to bf16, at most 2^-8 of the number, of fp32 sums in perhaps another order.
void expect_rounded_once(const std::vector<float>& found, const std::vector<float>& expected, const char* what) {
  ASSERT_EQ(found.size(), expected.size()) << what;
  for (std::size_t i = 0; i < found.size(); ++i)
    ASSERT_NEAR(found[i], expected[i], std::abs(expected[i]) / 256.0F + 1e-5F) << what << ", element " << i;
}

TEST_P(AttentionOp, InBf16_IsTheF32OpOnTheSameNumbers_EachResultRoundedOnce) {
  const AttentionValues values{
      .q = rounded(values_.q), .k = rounded(values_.k), .v = rounded(values_.v), .table = rounded(values_.table)};
  const std::vector<double> d_out = rounded(d_out_);

  const Outcome found = run<BFloat16>(reference_, values, d_out, 2);

  // The backward pass reads `out` as it was stored.
  const Outcome expected = run<float>(reference_, values, d_out, 2, [&](std::vector<float>& out) { out = found.out; });
  expect_rounded_once(found.out, expected.out, "out");
  expect_rounded_once(found.d_q, expected.d_q, "d_q");
  expect_rounded_once(found.d_k, expected.d_k, "d_k");
  expect_rounded_once(found.d_v, expected.d_v, "d_v");
  EXPECT_EQ(found.lse, expected.lse);
  EXPECT_EQ(found.d_bias, expected.d_bias);
}

INSTANTIATE_TEST_SUITE_P(
    Cases, AttentionOp,
    testing::Values(
        AttentionCase{.name = "one_token", .query_lengths = {1}, .key_lengths = {}, .heads = 1, .head_size = 1},
        AttentionCase{.name = "encoder",
                      .query_lengths = {5, 1, 17},
                      .key_lengths = {},
                      .heads = 3,
                      .head_size = 12,
                      .bias = true},
        AttentionCase{
            .name = "encoder_without_bias", .query_lengths = {5, 1, 17}, .key_lengths = {}, .heads = 2, .head_size = 3},
        AttentionCase{.name = "encoder_of_several_blocks",
                      .query_lengths = {130, 1, 65},
                      .key_lengths = {},
                      .heads = 2,
                      .head_size = 16,
                      .bias = true,
                      .dropout = 0.1F},
        AttentionCase{.name = "decoder",
                      .query_lengths = {1, 16, 9},
                      .key_lengths = {},
                      .heads = 2,
                      .head_size = 3,
                      .causal = true,
                      .bias = true},
        AttentionCase{.name = "decoder_of_several_blocks",
                      .query_lengths = {70, 1, 129},
                      .key_lengths = {},
                      .heads = 2,
                      .head_size = 5,
                      .causal = true,
                      .bias = true,
                      .dropout = 0.25F},
        AttentionCase{.name = "decoder_without_bias",
                      .query_lengths = {33, 2},
                      .key_lengths = {},
                      .heads = 1,
                      .head_size = 64,
                      .causal = true,
                      .dropout = 0.1F},
        AttentionCase{
            .name = "cross", .query_lengths = {4, 1, 20}, .key_lengths = {9, 30, 1}, .heads = 3, .head_size = 12},
        AttentionCase{.name = "cross_with_dropout",
                      .query_lengths = {66, 3},
                      .key_lengths = {7, 100},
                      .heads = 2,
                      .head_size = 1,
                      .dropout = 0.5F}),
    [](const testing::TestParamInfo<AttentionCase>& each) { return each.param.name; });

TEST(AttentionWorkspace, IsTheScratchOfAllThreadsAndWhatAnOpShares) {
  // A tile of 64 queries has rows of 64 floats for 50 keys; backward has two, bias and its gradient by distance, and a
  // row's dropout in whole chunks.
  const std::size_t thread = 2 * 64 * 64 + 2 * (100 + 64) + 128;
  const std::size_t buckets_by_distance = 100 + 50;
  const std::size_t bias_gradients = 2 * 3 * 32;

  EXPECT_EQ(attention_workspace_bytes(
                {.longest_queries = 100, .longest_keys = 50, .sequences = 2, .heads = 3, .buckets = 32, .threads = 4}),
            4 * (4 * thread + buckets_by_distance + bias_gradients));

  // In bf16 also q, d_out and d_q of a tile and k, v, d_k and d_v in fp32.
  const std::size_t panels = (3 * 64 + 4 * 50) * 8;
  EXPECT_EQ(attention_workspace_bytes({.longest_queries = 100,
                                       .longest_keys = 50,
                                       .sequences = 2,
                                       .heads = 3,
                                       .head_size = 8,
                                       .buckets = 32,
                                       .dtype = DType::bf16,
                                       .threads = 4}),
            4 * (4 * (thread + panels) + buckets_by_distance + bias_gradients));
}

}  // namespace
}  // namespace spillway::kernels::cpu
