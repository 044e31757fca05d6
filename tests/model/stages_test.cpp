// SPDX-License-Identifier: Apache-2.0
#include "model/stages.hpp"

#include <gmock/gmock.h>

#include "model/activations.hpp"

namespace spillway::model {
namespace {

T5Config small_config(bool untied) {
  T5Config config;
  config.vocab_size = 97;
  config.d_model = 32;
  config.d_kv = 4;
  config.num_heads = 3;
  config.d_ff = 48;
  config.num_layers = 2;
  config.num_decoder_layers = 1;
  config.untied_head = untied;
  return config;
}

TEST(T5Stages, StandInForwardOrderWithTheUnitThatEachNeeds) {
  for (const bool untied : {false, true}) {
    const T5Config config = small_config(untied);
    const T5Layout layout(config);

    const std::vector<Stage> stages = t5_stages(config, layout);

    std::vector<StageKind> kinds;
    std::vector<int> units;
    for (const Stage& stage : stages) {
      kinds.push_back(stage.kind);
      units.push_back(stage.unit);
    }
    EXPECT_THAT(kinds, ::testing::ElementsAre(StageKind::encoder_embedding, StageKind::encoder_block,
                                              StageKind::encoder_block, StageKind::encoder_output,
                                              StageKind::decoder_embedding, StageKind::decoder_block, StageKind::head));
    EXPECT_THAT(units, ::testing::ElementsAre(0, 1, 2, 0, 0, 3, untied ? 4 : 0));
    EXPECT_EQ(stages[2].block, 1);
  }
}

std::vector<bool> backwards(const T5Config& config, const Freezing& freezing) {
  std::vector<bool> result;
  for (const Stage& stage : t5_stages(config, T5Layout(config, freezing))) result.push_back(stage.backward);
  return result;
}

TEST(T5Stages, HaveABackwardPassWhereSomethingInOrBeforeThemIsTrainable) {
  const T5Config config = small_config(true);
  using ::testing::ElementsAre;

  EXPECT_THAT(backwards(config, {}), ElementsAre(true, true, true, true, true, true, true));
  EXPECT_THAT(backwards(config, {.embeddings = true}), ElementsAre(false, true, true, true, false, true, true));
  EXPECT_THAT(backwards(config, {.encoder = true}), ElementsAre(false, false, false, false, false, true, true));
}

TEST(T5Stages, WithAFrozenTiedHead_TheHeadNeedsNoUnitOfItsOwn) {
  const T5Config config = small_config(false);
  const T5Layout layout(config, {.embeddings = true});

  const std::vector<Stage> stages = t5_stages(config, layout);

  EXPECT_EQ(stages.back().unit, 0);
  EXPECT_EQ(stages[1].unit, 2);
}

class StageBytes : public ::testing::Test {
 protected:
  const T5Config config = small_config(false);
  const BatchLimits limits{.sequences = 2, .source_rows = 16, .target_rows = 32};
  [[nodiscard]] std::size_t bytes(StageKind kind, bool training, bool keep, DType dtype = DType::f32) const {
    return stage_bytes({.kind = kind, .unit = 1}, config, dtype, limits, training, keep);
  }
};

TEST_F(StageBytes, OfEmbeddings_AreNone) {
  EXPECT_EQ(bytes(StageKind::encoder_embedding, true, true), 0U);
  EXPECT_EQ(bytes(StageKind::decoder_embedding, true, true), 0U);
}

TEST_F(StageBytes, OfABlockWithCheckpointing_AreItsInputAlone) {
  EXPECT_EQ(bytes(StageKind::encoder_block, true, false), 16U * 32U * 4U);
  EXPECT_EQ(bytes(StageKind::decoder_block, true, false), 32U * 32U * 4U);
  EXPECT_EQ(bytes(StageKind::decoder_block, false, true), 32U * 32U * 4U);
}

TEST_F(StageBytes, OfABlockThatKeepsItsActivations_AreItsInputAndThose) {
  Carver encoder;
  (void)carve_block(encoder, config, DType::f32, 16, 0, false);
  Carver decoder;
  (void)carve_block(decoder, config, DType::f32, 32, 16, true);

  EXPECT_EQ(bytes(StageKind::encoder_block, true, true), 16U * 32U * 4U + encoder.bytes());
  EXPECT_EQ(bytes(StageKind::decoder_block, true, true), 32U * 32U * 4U + decoder.bytes());
}

TEST_F(StageBytes, OfAStacksEnd_HoldGradientsOnlyInTraining) {
  EXPECT_EQ(bytes(StageKind::encoder_output, false, false), 2U * 16U * 32U * 4U + 16U * 4U);
  EXPECT_EQ(bytes(StageKind::encoder_output, true, false), 4U * 16U * 32U * 4U + 16U * 4U);
  EXPECT_EQ(bytes(StageKind::head, true, true), 4U * 32U * 32U * 4U + 32U * 4U);
}

TEST_F(StageBytes, InBf16_AreHalfButForTheResidualStreamAndStatistics) {
  EXPECT_EQ(bytes(StageKind::encoder_block, true, false, DType::bf16), 16U * 32U * 4U);
  EXPECT_EQ(bytes(StageKind::head, true, true, DType::bf16), 2U * 32U * 32U * (4U + 2U) + 32U * 4U);
}

TEST_F(StageBytes, WithoutABackwardPass_AreThoseOfInference) {
  for (const StageKind kind : {StageKind::encoder_block, StageKind::encoder_output})
    EXPECT_EQ(stage_bytes({.kind = kind, .unit = 1, .backward = false}, config, DType::f32, limits, true, true),
              bytes(kind, false, false));
}

}  // namespace
}  // namespace spillway::model
