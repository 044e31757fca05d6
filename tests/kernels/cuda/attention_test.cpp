// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <vector>

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include "kernels/attention_reference.hpp"
#include "kernels/cuda/attention_run.hpp"
#include "kernels/float16.hpp"

namespace spillway::kernels::cuda {
namespace {

using test::AttentionOutcome;
using test::Rows;
using test::run_attention;

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
void expect_close(const AttentionOutcome& found, const AttentionOutcome& expected, double norm, double floor,
                  double bias_norm) {
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
    const AttentionOutcome expected = run_attention<float>(false, reference_, values_, rows);

    const AttentionOutcome found = run_attention<float>(true, reference_, values_, rows);

    expect_close(found, expected, 1e-5, 1e-6, 1e-5);
  }
}

TEST_P(CudaAttention, InBf16_IsThatOfTheCpu_ButForRoundedProbabilities) {
  for (const Rows rows : {Rows::dense, Rows::wide, Rows::odd}) {
    const AttentionOutcome expected = run_attention<BFloat16>(false, reference_, values_, rows);

    const AttentionOutcome found = run_attention<BFloat16>(true, reference_, values_, rows);

    expect_close(found, expected, 1.0 / 128.0, 2e-3, 1.0 / 64.0);
  }
}

// The CPU has no f16: the same numbers in f32. Beside them are rounded: probabilities, results, and out before it is multiplied by d_out.
TEST_P(CudaAttention, InF16_IsTheCpusF32OfTheSameNumbers_ButForRounding) {
  const AttentionValues values{
      .q = in_f16(values_.q), .k = in_f16(values_.k), .v = in_f16(values_.v), .table = in_f16(values_.table)};
  const std::vector<double> d_out = in_f16(reference_.example_d_out());
  for (const Rows rows : {Rows::dense, Rows::wide, Rows::odd}) {
    const AttentionOutcome expected = run_attention<float>(false, reference_, values, d_out, rows);

    const AttentionOutcome found = run_attention<Float16>(true, reference_, values, rows);

    expect_close(found, expected, 1.0 / 512.0, 5e-4, 1.0 / 256.0);
  }
}

TEST_P(CudaAttention, TwoRunsGiveTheSameBits) {
  EXPECT_EQ(run_attention<float>(true, reference_, values_, Rows::wide),
            run_attention<float>(true, reference_, values_, Rows::wide));
  EXPECT_EQ(run_attention<BFloat16>(true, reference_, values_, Rows::wide),
            run_attention<BFloat16>(true, reference_, values_, Rows::wide));
  EXPECT_EQ(run_attention<Float16>(true, reference_, values_, Rows::wide),
            run_attention<Float16>(true, reference_, values_, Rows::wide));
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

  const std::vector<float> found = run_attention<T>(true, reference, values, Rows::dense).out;

  const std::vector<float> expected = run_attention<float>(false, reference, values, Rows::dense).out;
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

}  // namespace
}  // namespace spillway::kernels::cuda
