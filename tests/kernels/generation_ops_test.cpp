// SPDX-License-Identifier: Apache-2.0
#include "kernels/generation_ops.hpp"

#include <vector>

#include <gmock/gmock.h>

#include "core/error.hpp"
#include "kernels/generation_fixture.hpp"
#include "kernels/kernel_fixtures.hpp"

namespace spillway::kernels {
namespace {

using test::at_position;
using test::GenerationOpsTest;
using testing::HasSubstr;
using testing::ThrowsMessage;

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
