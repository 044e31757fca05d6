// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/dropout.hpp"

#include <cmath>

#include <gtest/gtest.h>

#include "kernels/cpu/instruction_set.hpp"
#include "kernels/instruction_set_fixture.hpp"
#include "kernels/kernel_fixtures.hpp"

namespace spillway::kernels::cpu {
namespace {

using test::Batch;

[[gnu::always_inline]] inline void all_factors(const Dropout& dropout, const PackedSequences& sequences,
                                               std::int64_t width, float* result) {
  RowDropout row_dropout(dropout, sequences, width);
  for (std::int64_t row = 0; row < sequences.rows; ++row) {
    row_dropout.start_row(row);
    for (std::int64_t chunk = 0; chunk < width; chunk += kDropoutChunk) {
      const float* factors = row_dropout.factors(chunk);
      for (std::int64_t c = chunk; c < std::min(width, chunk + kDropoutChunk); ++c)
        result[row * width + c] = factors[c - chunk];
    }
  }
}

std::vector<float> factors_of(InstructionSet set, const Dropout& dropout, const Batch& batch, std::int64_t width) {
  std::vector<float> result(static_cast<std::size_t>(batch.sequences.rows * width));
  vectorised_for<all_factors>(set, dropout, batch.sequences, width, result.data());
  return result;
}

class DropoutOnInstructionSet : public test::OnInstructionSet {};
INSTANTIATE_TEST_SUITE_P(Each, DropoutOnInstructionSet,
                         testing::Values(InstructionSet::baseline, InstructionSet::avx2, InstructionSet::avx512),
                         test::name_of_set);

TEST_P(DropoutOnInstructionSet, IsTheDocumentedFunctionOfPosition) {
  const Dropout dropout{.probability = 0.1F, .key = 0x123456789ABCDEF0, .site = 17};
  const Batch batch(9);
  for (const std::int64_t width : {1, 5, 24, 128, 129, 300}) {
    const std::vector<float> factors = factors_of(GetParam(), dropout, batch, width);

    for (std::int64_t row = 0; row < 9; ++row)
      for (std::int64_t c = 0; c < width; ++c)
        ASSERT_EQ(factors[static_cast<std::size_t>(row * width + c)],
                  static_cast<float>(test::dropout_factor(dropout, batch, row, width, c)))
            << row << " " << c << " of " << width;
  }
}

TEST(Dropout, KeepsTheShareThatItSays_WithAMeanOfOne) {
  const Dropout dropout{.probability = 0.25F, .key = 99, .site = 2};
  const Batch batch(200);

  const std::vector<float> factors = factors_of(widest_instruction_set(), dropout, batch, 512);

  double kept = 0.0, sum = 0.0;
  for (const float factor : factors) {
    kept += factor != 0.0F ? 1.0 : 0.0;
    sum += static_cast<double>(factor);
  }
  const auto count = static_cast<double>(factors.size());
  EXPECT_NEAR(kept / count, 0.75, 5 * std::sqrt(0.25 * 0.75 / count));
  EXPECT_NEAR(sum / count, 1.0, 0.01);
}

TEST(Dropout, WhenOff_IsOneEverywhereAndNeedsNoSamples) {
  const Dropout off;
  const PackedSequences bare{.offsets = {}, .row_sample = {}, .row_position = {}, .count = 1, .rows = 2, .longest = 2};
  std::vector<float> factors(2 * 130);

  vectorised<all_factors>(off, bare, std::int64_t{130}, factors.data());

  EXPECT_EQ(factors, std::vector<float>(2 * 130, 1.0F));
}

}  // namespace
}  // namespace spillway::kernels::cpu
