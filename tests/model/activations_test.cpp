// SPDX-License-Identifier: Apache-2.0
#include "model/activations.hpp"

#include <array>

#include <gmock/gmock.h>

#include "core/error.hpp"

namespace spillway::model {
namespace {

TEST(Carver, GivesTensorsOneAfterTheOtherOn64ByteBoundaries) {
  alignas(64) std::array<std::byte, 512> memory{};
  Carver carver(memory.data());

  const TensorView first = carver.take({3, 5});
  const TensorView second = carver.take({16}, DType::i32);
  const TensorView third = carver.take({1}, DType::u8);

  EXPECT_EQ(first.data(), memory.data());
  EXPECT_EQ(first.shape(), Shape({3, 5}));
  EXPECT_EQ(second.data(), memory.data() + 64);
  EXPECT_EQ(second.dtype(), DType::i32);
  EXPECT_EQ(third.data(), memory.data() + 128);
  EXPECT_EQ(carver.bytes(), 192U);
}

TEST(Carver, WithoutMemory_CountsTheSameBytes) {
  T5Config config;
  config.gated = true;
  std::vector<std::byte> memory(std::size_t{1} << 20);
  Carver counting;
  Carver carving(memory.data());

  (void)carve_block(counting, config, DType::f32, 7, 5, true);
  const BlockActivations block = carve_block(carving, config, DType::f32, 7, 5, true);

  EXPECT_EQ(counting.bytes(), carving.bytes());
  EXPECT_EQ(block.feed_forward.u.shape(), Shape({7, 2 * 2048}));
  EXPECT_EQ(block.cross.kv.shape(), Shape({5, 2 * 512}));
  EXPECT_EQ(block.self.q.shape(), Shape({7, 3 * 512}));
}

TEST(Carver, SizesThatOverflow_AreRefused) {
  constexpr std::int64_t kLarge = std::int64_t{1} << 31;
  Carver carver;

  EXPECT_THROW((void)carver.take({kLarge, kLarge}), Error);
  EXPECT_THROW((void)carver.take({kLarge, kLarge, kLarge}, DType::u8), Error);
  EXPECT_THROW((void)carver.take({-1}), Error);
  EXPECT_EQ(carver.bytes(), 0U);
  for (int i = 0; i < 3; ++i) (void)carver.take({kLarge, kLarge}, DType::u8);
  EXPECT_THROW((void)carver.take({kLarge, kLarge}, DType::u8), Error);
}

TEST(CarveBlock, OfAnEncoder_HasNoCrossAttention) {
  std::vector<std::byte> memory(std::size_t{1} << 20);
  Carver carver(memory.data());

  const BlockActivations block = carve_block(carver, T5Config{}, DType::f32, 4, 9, false);

  EXPECT_FALSE(block.cross.normed);
  EXPECT_FALSE(block.hidden_cross);
  EXPECT_TRUE(block.hidden_attention);
}

TEST(CarveBlock, OfARelu_KeepsAMaskInPlaceOfWhatItWasOf) {
  std::vector<std::byte> memory(std::size_t{1} << 20);
  const auto feed_forward = [&](const T5Config& config) {
    Carver carver(memory.data());
    return carve_block(carver, config, DType::f32, 4, 9, false).feed_forward;
  };
  T5Config gated, odd;
  gated.gated = true;
  odd.d_ff = 2047;

  EXPECT_EQ(feed_forward({}).act.data(), feed_forward({}).u.data());
  EXPECT_EQ(feed_forward({}).mask.shape(), Shape({4, 256}));
  for (const T5Config& other : {gated, odd}) {
    EXPECT_FALSE(feed_forward(other).mask);
    EXPECT_NE(feed_forward(other).act.data(), feed_forward(other).u.data());
  }
}

class CarveIn16Bits : public ::testing::TestWithParam<DType> {};

TEST_P(CarveIn16Bits, ResidualStreamAndStatisticsAreF32) {
  const DType dtype = GetParam();
  Carver carver;
  const BatchLimits limits{.sequences = 1, .source_rows = 9, .target_rows = 4};

  const BlockActivations block = carve_block(carver, T5Config{}, dtype, 4, 9, true);
  const OutputActivations output = carve_output(carver, T5Config{}, dtype, 4, true);
  const Scratch scratch = carve_scratch(carver, T5Config{}, dtype, limits, true);

  for (const TensorView& tensor :
       {block.self.normed, block.self.q, block.self.out, block.cross.normed, block.cross.q, block.cross.kv,
        block.cross.out, block.feed_forward.normed, block.feed_forward.u, block.feed_forward.act, output.normed,
        output.d_normed, scratch.d_normed, scratch.d_wide, scratch.d_inner, scratch.d_kv})
    EXPECT_EQ(tensor.dtype(), dtype);
  for (const TensorView& tensor :
       {block.hidden_attention, block.hidden_cross, output.hidden, output.d_hidden, block.self.rstd, block.cross.rstd,
        block.feed_forward.rstd, output.rstd, block.self.log_sum_exp, block.cross.log_sum_exp, scratch.logits})
    EXPECT_EQ(tensor.dtype(), DType::f32);
  EXPECT_EQ(scratch.branch.dtype(), dtype == DType::f16 ? DType::f32 : dtype);
}

INSTANTIATE_TEST_SUITE_P(DTypes, CarveIn16Bits, ::testing::Values(DType::bf16, DType::f16));

TEST(HeadChunkRows, KeepsLogitsWithin32MiBButAtLeast16Rows) {
  T5Config config;
  config.vocab_size = 32128;
  EXPECT_EQ(head_chunk_rows(config, 100'000), (32 << 20) / (4 * 32128));
  EXPECT_EQ(head_chunk_rows(config, 7), 7);
  EXPECT_EQ(head_chunk_rows(config, 0), 1);
  config.vocab_size = 4'000'000;
  EXPECT_EQ(head_chunk_rows(config, 100), 16);
}

TEST(HeadChunkRows, OnAGpu_AreWholeTilesOfLogitsWithin256MiB) {
  T5Config config;
  config.vocab_size = 32128;
  EXPECT_EQ(head_chunk_rows(config, 100'000, kGpuHeadChunk), 2048);
  EXPECT_EQ(head_chunk_rows(config, 131, kGpuHeadChunk), 131);
  config.vocab_size = 4'000'000;
  EXPECT_EQ(head_chunk_rows(config, 1000, kGpuHeadChunk), 128);
}

TEST(CarveScratch, OfAForwardPass_LeavesOutWhatOnlyTheBackwardPassUses) {
  const T5Config config;
  const BatchLimits limits{.sequences = 2, .source_rows = 12, .target_rows = 6};
  std::vector<std::byte> memory(std::size_t{16} << 20);
  Carver forward(memory.data());
  const Scratch without = carve_scratch(forward, config, DType::f32, limits, false);
  Carver both(memory.data());
  const Scratch with = carve_scratch(both, config, DType::f32, limits, true);

  EXPECT_FALSE(without.d_wide);
  EXPECT_FALSE(without.d_kv);
  EXPECT_LT(forward.bytes(), both.bytes());
  EXPECT_EQ(with.branch.shape(), Shape({12, 512}));
  EXPECT_EQ(with.d_wide.shape(), Shape({12, 2048}));
  EXPECT_EQ(with.d_kv.shape(), Shape({12, 1024}));
  Carver half(memory.data());
  const Scratch in_bf16 = carve_scratch(half, config, DType::bf16, limits, true);
  EXPECT_EQ(in_bf16.branch.dtype(), DType::bf16);
  EXPECT_EQ(in_bf16.d_wide.dtype(), DType::bf16);
  EXPECT_EQ(in_bf16.logits.dtype(), DType::f32);
  EXPECT_EQ(in_bf16.d_logits.dtype(), DType::bf16);
  EXPECT_EQ(in_bf16.d_logits.shape(), in_bf16.logits.shape());
  EXPECT_FALSE(with.d_logits) << "in f32 the gradient replaces the logits";
  Carver no_gradient(memory.data());
  EXPECT_FALSE(carve_scratch(no_gradient, config, DType::bf16, limits, false).d_logits);
}

TEST(CarveScratch, HoldsTheLargerBlockForRecomputing) {
  const T5Config config;
  for (const BatchLimits limits : {BatchLimits{.sequences = 1, .source_rows = 40, .target_rows = 3},
                                   BatchLimits{.sequences = 1, .source_rows = 3, .target_rows = 40}}) {
    Carver encoder;
    (void)carve_block(encoder, config, DType::bf16, limits.source_rows, 0, false);
    Carver decoder;
    (void)carve_block(decoder, config, DType::bf16, limits.target_rows, limits.source_rows, true);
    Carver carver;

    const Scratch scratch = carve_scratch(carver, config, DType::bf16, limits, true);

    EXPECT_EQ(scratch.recomputed.bytes(), std::max(encoder.bytes(), decoder.bytes()));
  }
}

}  // namespace
}  // namespace spillway::model
