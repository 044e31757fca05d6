// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/attention.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include "core/error.hpp"
#include "kernels/attention_reference.hpp"
#include "kernels/cpu/attention.hpp"
#include "kernels/cuda/workspace.hpp"
#include "kernels/float16.hpp"

namespace spillway::kernels::cuda {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr std::int64_t kWorkspaceGuard = 64;

void require(cudaError_t result) { ASSERT_EQ(result, cudaSuccess) << cudaGetErrorString(result); }

float number(float value) { return value; }
float number(BFloat16 value) { return float_from_bf16(value.bits); }
float number(Float16 value) { return float_from_f16(value.bits); }

template <typename T>
T stored(float value) {
  if constexpr (std::is_same_v<T, float>) {
    return value;
  } else if constexpr (std::is_same_v<T, Float16>) {
    return {f16_from_float(value)};
  } else {
    return {bf16_from_float(value)};
  }
}

/// Where the tensors of an op are: the vectors themselves, or copies on the device that are written back by `fetch`.
class Place {
 public:
  explicit Place(bool device) : device_(device) {}
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;
  ~Place() {
    for (const Copy& copy : copies_) cudaFree(copy.device);
  }

  template <typename T>
  std::byte* of(std::vector<T>& values) {
    auto* const host = reinterpret_cast<std::byte*>(values.data());
    if (!device_) return host;
    Copy copy{.host = host, .device = nullptr, .bytes = values.size() * sizeof(T)};
    require(cudaMalloc(&copy.device, copy.bytes));
    require(cudaMemcpy(copy.device, host, copy.bytes, cudaMemcpyHostToDevice));
    copies_.push_back(copy);
    return static_cast<std::byte*>(copy.device);
  }
  void fetch() {
    for (const Copy& copy : copies_) require(cudaMemcpy(copy.host, copy.device, copy.bytes, cudaMemcpyDeviceToHost));
  }

 private:
  struct Copy {
    std::byte* host;
    void* device;
    std::size_t bytes;
  };
  bool device_;
  std::vector<Copy> copies_;
};

/// A matrix of `stride` columns whose columns from `column` on are an operand. What is beside them is NaN.
template <typename T>
struct Columns {
  Columns(const std::vector<double>& dense, std::int64_t columns, std::int64_t row_stride, std::int64_t first)
      : width(columns), stride(row_stride), column(first) {
    memory.assign(dense.size() / static_cast<std::size_t>(width) * static_cast<std::size_t>(stride), stored<T>(kNan));
    for (std::size_t i = 0; i < dense.size(); ++i) memory[at(i)] = stored<T>(static_cast<float>(dense[i]));
  }
  [[nodiscard]] std::size_t at(std::size_t i) const {
    const auto row = static_cast<std::int64_t>(i) / width;
    return static_cast<std::size_t>(row * stride + column + static_cast<std::int64_t>(i) % width);
  }
  [[nodiscard]] TensorView view(Place& place) {
    return {place.of(memory) + static_cast<std::size_t>(column) * sizeof(T),
            dtype_of<T>,
            {static_cast<std::int64_t>(memory.size()) - column}};
  }
  /// The operand; what is beside it must be as it was.
  [[nodiscard]] std::vector<float> dense() const {
    std::vector<float> values;
    std::vector<T> rest = memory;
    for (std::size_t i = 0; i < memory.size() / static_cast<std::size_t>(stride) * static_cast<std::size_t>(width);
         ++i) {
      values.push_back(number(memory[at(i)]));
      rest[at(i)] = stored<T>(kNan);
    }
    for (const T value : rest) EXPECT_TRUE(std::isnan(number(value))) << "beside the columns";
    return values;
  }

  std::vector<T> memory;
  std::int64_t width, stride, column;
};

struct Outcome {
  std::vector<float> out, lse, d_q, d_k, d_v, d_bias;
  friend bool operator==(const Outcome&, const Outcome&) = default;
};

/// How wide the rows are around the columns of q, k and v.
enum class Rows { dense, wide, odd };

template <typename T>
std::vector<T> dense(const std::vector<double>& values) {
  std::vector<T> result;
  for (const double value : values) result.push_back(stored<T>(static_cast<float>(value)));
  return result;
}

template <typename T>
std::vector<float> numbers(const std::vector<T>& values) {
  std::vector<float> result;
  for (const T value : values) result.push_back(number(value));
  return result;
}

/// \param d_outs  rounded by the caller where T does not round it
template <typename T>
Outcome run(bool device, const AttentionReference& reference, const AttentionValues& values,
            const std::vector<double>& d_outs, Rows rows) {
  const AttentionCase& shape = reference.shape;
  const std::int64_t width = reference.width();
  const std::int64_t stride = rows == Rows::dense ? width : rows == Rows::wide ? 3 * width + 8 : 3 * width + 5;
  const std::int64_t step = rows == Rows::dense ? 0 : width;
  Columns<T> q(values.q, width, stride, 0);
  Columns<T> k(values.k, width, stride, step);
  Columns<T> v(values.v, width, stride, 2 * step);
  const auto poisoned = [](std::size_t size) { return std::vector<double>(size, static_cast<double>(kNan)); };
  Columns<T> d_q(poisoned(values.q.size()), width, stride, 0);
  Columns<T> d_k(poisoned(values.k.size()), width, stride, step);
  Columns<T> d_v(poisoned(values.v.size()), width, stride, 2 * step);
  std::vector<T> table = dense<T>(values.table);
  std::vector<T> d_out = dense<T>(d_outs);
  std::vector<T> out(d_out.size(), stored<T>(kNan));
  std::vector<float> lse(static_cast<std::size_t>(reference.query_rows() * shape.heads), kNan);
  std::vector<float> d_bias(table.size(), 2.0F);

  Place place(device);
  const auto ids = [&](const std::vector<std::int32_t>& list) {
    return ConstTensorView(place.of(const_cast<std::vector<std::int32_t>&>(list)), DType::i32,
                           {static_cast<std::int64_t>(list.size())});
  };
  const auto longest = [](const std::vector<std::int32_t>& offsets) {
    std::int32_t most = 0;
    for (std::size_t s = 1; s < offsets.size(); ++s) most = std::max(most, offsets[s] - offsets[s - 1]);
    return static_cast<std::int64_t>(most);
  };
  const bool dropout = shape.dropout > 0.0F;
  const auto count = static_cast<std::int64_t>(shape.query_lengths.size());
  const Shape table_shape{reference.buckets, shape.heads};
  const auto table_view = shape.bias ? ConstTensorView(place.of(table), dtype_of<T>, table_shape) : ConstTensorView();
  const Attention op{
      .queries = {.offsets = ids(reference.query_offsets),
                  .row_sample = dropout ? ids(reference.row_sample) : ConstTensorView(),
                  .row_position = dropout ? ids(reference.row_position) : ConstTensorView(),
                  .count = count,
                  .rows = reference.query_rows(),
                  .longest = longest(reference.query_offsets)},
      .keys = {.offsets = ids(reference.key_offsets),
               .row_sample = {},
               .row_position = {},
               .count = count,
               .rows = reference.key_rows(),
               .longest = longest(reference.key_offsets)},
      .heads = shape.heads,
      .head_size = shape.head_size,
      .q = q.view(place),
      .k = k.view(place),
      .v = v.view(place),
      .q_stride = stride,
      .k_stride = stride,
      .v_stride = stride,
      .bias = {.table = table_view, .bidirectional = !shape.causal, .max_distance = reference.max_distance},
      .causal = shape.causal,
      .dropout = reference.dropout,
      .out = {place.of(out), dtype_of<T>, {reference.query_rows(), width}},
      .log_sum_exp = {place.of(lse), DType::f32, {reference.query_rows(), shape.heads}}};
  const AttentionGradient gradient{
      .forward = op,
      .d_out = {place.of(d_out), dtype_of<T>, {reference.query_rows(), width}},
      .d_q = d_q.view(place),
      .d_k = d_k.view(place),
      .d_v = d_v.view(place),
      .d_bias = shape.bias ? TensorView(place.of(d_bias), DType::f32, table_shape) : TensorView()};
  if (device) {
    const std::size_t bytes = attention_workspace_bytes(sizes_of(op));
    // NaN where the ops should write before they read, and a guard behind.
    std::vector<float> workspace(bytes / 4 + kWorkspaceGuard, kNan);
    std::byte* const memory = place.of(workspace);
    cudaStream_t stream = nullptr;
    require(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    attention(stream, {memory, bytes}, op);
    require(cudaMemsetAsync(memory, 0xFF, bytes, stream));
    attention_gradient(stream, {memory, bytes}, gradient);
    require(cudaStreamSynchronize(stream));
    require(cudaStreamDestroy(stream));
    place.fetch();
    for (std::size_t i = bytes / 4; i < workspace.size(); ++i)
      EXPECT_TRUE(std::isnan(workspace[i])) << "behind the workspace";
  } else if constexpr (!std::is_same_v<T, Float16>) {  // which the CPU has not got
    cpu::ThreadPool pool(2);
    cpu::attention(pool, op);
    cpu::attention_gradient(pool, gradient);
  }
  return {
      .out = numbers(out), .lse = lse, .d_q = d_q.dense(), .d_k = d_k.dense(), .d_v = d_v.dense(), .d_bias = d_bias};
}

template <typename T>
Outcome run(bool device, const AttentionReference& reference, const AttentionValues& values, Rows rows) {
  return run<T>(device, reference, values, reference.example_d_out(), rows);
}

/// As f16 holds them.
std::vector<double> in_f16(std::vector<double> values) {
  for (double& value : values) value = static_cast<double>(float_from_f16(f16_from_float(static_cast<float>(value))));
  return values;
}

/// ‖found - expected‖ <= norm ‖expected‖ and |found - expected| <= 8 norm max |expected| in each element, but for `floor`, what
/// rounding leaves of sums whose parts cancel.
void expect_close(const std::vector<float>& found, const std::vector<float>& expected, double norm, double floor,
                  const char* what) {
  ASSERT_EQ(found.size(), expected.size()) << what;
  double error = 0.0;
  double size = 0.0;
  double largest = 0.0;
  for (const float value : expected) largest = std::max(largest, std::abs(static_cast<double>(value)));
  for (std::size_t i = 0; i < found.size(); ++i) {
    const double difference = static_cast<double>(found[i]) - static_cast<double>(expected[i]);
    ASSERT_LE(std::abs(difference), 8.0 * (norm * largest + floor))
        << what << ", element " << i << ": " << found[i] << ", expected " << expected[i];
    error += difference * difference;
    size += static_cast<double>(expected[i]) * static_cast<double>(expected[i]);
  }
  EXPECT_LE(std::sqrt(error), norm * std::sqrt(size) + floor * std::sqrt(static_cast<double>(found.size()))) << what;
}

/// \param bias_norm  of d_bias, where what rounding does to each row's out · d_out adds up over all rows
void expect_close(const Outcome& found, const Outcome& expected, double norm, double floor, double bias_norm) {
  expect_close(found.out, expected.out, norm, floor, "out");
  expect_close(found.lse, expected.lse, 1e-5, 1e-5, "log_sum_exp");
  expect_close(found.d_q, expected.d_q, norm, floor, "d_q");
  expect_close(found.d_k, expected.d_k, norm, floor, "d_k");
  expect_close(found.d_v, expected.d_v, norm, floor, "d_v");
  expect_close(found.d_bias, expected.d_bias, bias_norm, floor, "d_bias");
}

class CudaAttention : public testing::TestWithParam<AttentionCase> {
 protected:
  void SetUp() override {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) GTEST_SKIP() << "no CUDA device";
  }
  const AttentionReference reference_{GetParam()};
  const AttentionValues values_ = reference_.example_values();
};

TEST_P(CudaAttention, InF32_IsThatOfTheCpu) {
  for (const Rows rows : {Rows::dense, Rows::odd}) {
    const Outcome expected = run<float>(false, reference_, values_, rows);

    const Outcome found = run<float>(true, reference_, values_, rows);

    expect_close(found, expected, 1e-5, 1e-6, 1e-5);
  }
}

TEST_P(CudaAttention, InBf16_IsThatOfTheCpu_ButForRoundedProbabilities) {
  for (const Rows rows : {Rows::dense, Rows::wide, Rows::odd}) {
    const Outcome expected = run<BFloat16>(false, reference_, values_, rows);

    const Outcome found = run<BFloat16>(true, reference_, values_, rows);

    expect_close(found, expected, 1.0 / 128.0, 2e-3, 1.0 / 64.0);
  }
}

// The CPU has no f16: the same numbers in f32. Beside them are rounded: probabilities, results, and out before it is multiplied by d_out.
TEST_P(CudaAttention, InF16_IsTheCpusF32OfTheSameNumbers_ButForRounding) {
  const AttentionValues values{
      .q = in_f16(values_.q), .k = in_f16(values_.k), .v = in_f16(values_.v), .table = in_f16(values_.table)};
  const std::vector<double> d_out = in_f16(reference_.example_d_out());
  for (const Rows rows : {Rows::dense, Rows::wide, Rows::odd}) {
    const Outcome expected = run<float>(false, reference_, values, d_out, rows);

    const Outcome found = run<Float16>(true, reference_, values, rows);

    expect_close(found, expected, 1.0 / 512.0, 5e-4, 1.0 / 256.0);
  }
}

TEST_P(CudaAttention, TwoRunsGiveTheSameBits) {
  EXPECT_EQ(run<float>(true, reference_, values_, Rows::wide), run<float>(true, reference_, values_, Rows::wide));
  EXPECT_EQ(run<BFloat16>(true, reference_, values_, Rows::wide), run<BFloat16>(true, reference_, values_, Rows::wide));
  EXPECT_EQ(run<Float16>(true, reference_, values_, Rows::wide), run<Float16>(true, reference_, values_, Rows::wide));
}

/// All probabilities alike and v the unit matrix: out is what dropout keeps.
template <typename T>
void expect_same_mask(const AttentionReference& reference) {
  AttentionValues values = reference.example_values();
  std::fill(values.q.begin(), values.q.end(), 0.0);
  for (std::size_t i = 0; i < values.v.size(); ++i) {
    const auto size = static_cast<std::size_t>(reference.shape.head_size);
    const auto row = static_cast<std::int32_t>(static_cast<std::int64_t>(i) / reference.width());
    const auto next = std::upper_bound(reference.key_offsets.begin(), reference.key_offsets.end(), row);
    values.v[i] = i % size == static_cast<std::size_t>(row - *(next - 1)) ? 1.0 : 0.0;
  }

  const std::vector<float> found = run<T>(true, reference, values, Rows::dense).out;

  const std::vector<float> expected = run<float>(false, reference, values, Rows::dense).out;
  for (std::size_t i = 0; i < found.size(); ++i) ASSERT_EQ(found[i] == 0.0F, expected[i] == 0.0F) << "element " << i;
}

TEST(CudaAttentionDropout, MasksAreThoseOfTheCpu) {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) GTEST_SKIP() << "no CUDA device";
  const AttentionReference reference({.name = "masks",
                                      .query_lengths = {70, 3, 129},
                                      .key_lengths = {50, 128, 77},
                                      .heads = 3,
                                      .head_size = 128,
                                      .dropout = 0.3F});

  expect_same_mask<float>(reference);
  expect_same_mask<BFloat16>(reference);
  expect_same_mask<Float16>(reference);
}

INSTANTIATE_TEST_SUITE_P(
    Cases, CudaAttention,
    testing::Values(
        AttentionCase{.name = "one_token", .query_lengths = {1}, .key_lengths = {}, .heads = 1, .head_size = 1},
        AttentionCase{.name = "encoder_of_12_columns",
                      .query_lengths = {5, 1, 17},
                      .key_lengths = {},
                      .heads = 3,
                      .head_size = 12,
                      .bias = true},
        AttentionCase{.name = "encoder_of_64_columns",
                      .query_lengths = {130, 1, 64, 65},
                      .key_lengths = {},
                      .heads = 2,
                      .head_size = 64,
                      .bias = true,
                      .dropout = 0.1F},
        AttentionCase{.name = "encoder_of_128_columns",
                      .query_lengths = {63, 257},
                      .key_lengths = {},
                      .heads = 2,
                      .head_size = 128,
                      .bias = true,
                      .dropout = 0.1F},
        AttentionCase{.name = "encoder_of_256_columns",
                      .query_lengths = {66, 9},
                      .key_lengths = {},
                      .heads = 2,
                      .head_size = 256,
                      .bias = true,
                      .dropout = 0.25F},
        AttentionCase{.name = "decoder_of_96_columns",
                      .query_lengths = {1, 16, 130},
                      .key_lengths = {},
                      .heads = 2,
                      .head_size = 96,
                      .causal = true,
                      .bias = true},
        AttentionCase{.name = "decoder_of_64_columns",
                      .query_lengths = {70, 1, 129, 200},
                      .key_lengths = {},
                      .heads = 2,
                      .head_size = 64,
                      .causal = true,
                      .bias = true,
                      .dropout = 0.25F},
        AttentionCase{.name = "decoder_of_5_columns",
                      .query_lengths = {33, 2},
                      .key_lengths = {},
                      .heads = 1,
                      .head_size = 5,
                      .causal = true,
                      .dropout = 0.1F},
        AttentionCase{.name = "causal_with_other_lengths",
                      .query_lengths = {100, 3, 40},
                      .key_lengths = {20, 130, 41},
                      .heads = 2,
                      .head_size = 64,
                      .causal = true,
                      .bias = true},
        AttentionCase{.name = "encoder_of_64_columns_and_at_most_128_tokens",
                      .query_lengths = {128, 1, 64, 65, 97},
                      .key_lengths = {},
                      .heads = 3,
                      .head_size = 64,
                      .bias = true,
                      .dropout = 0.1F},
        AttentionCase{.name = "decoder_of_64_columns_and_at_most_64_tokens",
                      .query_lengths = {33, 64, 1, 16},
                      .key_lengths = {},
                      .heads = 2,
                      .head_size = 64,
                      .causal = true,
                      .bias = true,
                      .dropout = 0.25F},
        AttentionCase{.name = "decoder_of_128_columns_and_at_most_128_tokens",
                      .query_lengths = {100, 128, 3},
                      .key_lengths = {},
                      .heads = 2,
                      .head_size = 128,
                      .causal = true,
                      .bias = true,
                      .dropout = 0.1F},
        AttentionCase{.name = "encoder_of_128_columns_and_at_most_64_tokens",
                      .query_lengths = {64, 31},
                      .key_lengths = {},
                      .heads = 2,
                      .head_size = 128,
                      .bias = true},
        AttentionCase{.name = "many_queries_and_few_keys",
                      .query_lengths = {300, 1, 64},
                      .key_lengths = {100, 128, 17},
                      .heads = 2,
                      .head_size = 64,
                      .bias = true,
                      .dropout = 0.1F},
        AttentionCase{.name = "many_buckets",
                      .query_lengths = {120, 7},
                      .key_lengths = {},
                      .heads = 2,
                      .head_size = 64,
                      .bias = true,
                      .buckets = 160,
                      .max_distance = 100},
        AttentionCase{
            .name = "cross", .query_lengths = {4, 1, 120}, .key_lengths = {90, 300, 1}, .heads = 3, .head_size = 64},
        AttentionCase{.name = "cross_with_dropout",
                      .query_lengths = {66, 3},
                      .key_lengths = {7, 100},
                      .heads = 2,
                      .head_size = 128,
                      .dropout = 0.5F}),
    [](const testing::TestParamInfo<AttentionCase>& each) { return each.param.name; });

TEST(CudaAttentionWorkspace, HoldsBiasDeltaAndBucketsOfEveryBlock) {
  const std::size_t bias = 6 * 149 * 4;  // in whole 256 bytes below
  const std::size_t bucket = 149 * 4;
  const std::size_t delta = 190 * 6 * 4;
  const std::size_t d_buckets = 2 * 6 * 2 * 32 * 4;
  const auto rounded = [](std::size_t bytes) { return (bytes + 255) / 256 * 256; };

  EXPECT_EQ(
      attention_workspace_bytes(
          {.longest_queries = 100, .longest_keys = 50, .query_rows = 190, .sequences = 2, .heads = 6, .buckets = 32}),
      rounded(bias) + rounded(bucket) + rounded(delta) + rounded(d_buckets));
}

TEST(CudaAttentionWorkspace, TooSmall_IsAnError) {
  EXPECT_THROW(require_workspace("attention", 10, 9), Error);
  EXPECT_NO_THROW(require_workspace("attention", 10, 10));
}

}  // namespace
}  // namespace spillway::kernels::cuda
