// SPDX-License-Identifier: Apache-2.0
#include <cstddef>

#include <gtest/gtest.h>

#include "core/error.hpp"
#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/workspace.hpp"

namespace spillway::kernels::cuda {
namespace {

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
