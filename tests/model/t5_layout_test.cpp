// SPDX-License-Identifier: Apache-2.0
#include "model/t5_layout.hpp"

#include <map>

#include <gmock/gmock.h>

#include "checkpoint/safetensors_file.hpp"
#include "model/tiny_model.hpp"

namespace spillway::model::test {
namespace {

T5Config config_of(const std::string& folder) {
  return parse_t5_config(reference_text(folder + "/config.json"), folder);
}

class T5LayoutOf : public ::testing::TestWithParam<const char*> {
 protected:
  T5Config config = config_of(GetParam());
  T5Layout layout{config};
  [[nodiscard]] const TensorSpec& tensor(const std::string& name) const {
    for (const TensorSpec& spec : layout.tensors())
      if (spec.name == name) return spec;
    throw std::out_of_range(name);
  }
};

TEST_P(T5LayoutOf, NamesAndShapesAreThoseThatTransformersWrites) {
  const checkpoint::SafetensorsFile file(std::string(SPILLWAY_TEST_REFERENCE) + "/" + GetParam() +
                                         "/model.safetensors");
  std::map<std::string, Shape> wanted;
  for (const auto& entry : file.tensors()) wanted.emplace(entry.name, Shape(entry.shape));

  std::map<std::string, Shape> found;
  for (const TensorSpec& spec : layout.tensors()) found.emplace(spec.name, spec.shape);

  EXPECT_EQ(found.size(), layout.tensors().size());
  EXPECT_EQ(found.size(), wanted.size());
  for (const auto& [name, shape] : wanted) {
    ASSERT_TRUE(found.contains(name)) << name;
    EXPECT_EQ(found.at(name), shape) << name;
  }
}

TEST_P(T5LayoutOf, UnitsStandInForwardOrder) {
  std::vector<std::string> wanted = {"persistent"};
  for (int block = 0; block < config.num_layers; ++block) wanted.push_back("encoder." + std::to_string(block));
  for (int block = 0; block < config.num_decoder_layers; ++block) wanted.push_back("decoder." + std::to_string(block));
  if (config.untied_head) wanted.emplace_back("head");

  std::vector<std::string> found;
  for (int unit = 0; unit < layout.units(); ++unit) found.push_back(layout.unit_name(unit));

  EXPECT_EQ(found, wanted);
  EXPECT_EQ(layout.unit_name(layout.head_unit()), config.untied_head ? "head" : "persistent");
  EXPECT_EQ(layout.unit_name(layout.encoder_unit(config.num_layers - 1)),
            "encoder." + std::to_string(config.num_layers - 1));
  EXPECT_EQ(layout.unit_name(layout.decoder_unit(0)), "decoder.0");
}

TEST_P(T5LayoutOf, EveryProductStartsOnAShardBoundary) {
  const BlockOffsets& decoder = layout.decoder_block();
  const BlockOffsets& encoder = layout.encoder_block();
  for (const std::int64_t offset : {encoder.qkv, encoder.o, encoder.wi, encoder.wo, decoder.qkv, decoder.o,
                                    decoder.cross_q, decoder.cross_kv, decoder.cross_o, decoder.wi, decoder.wo})
    EXPECT_EQ(offset % kShardAlignment, 0);
  for (const TensorSpec& spec : layout.tensors())
    EXPECT_EQ(spec.unit == 0 ? spec.offset % kShardAlignment : 0, 0) << spec.name;
  // Overlaps are what ShardMap refuses.
  EXPECT_NO_THROW(ShardMap(layout.tensors(), 3));
}

TEST_P(T5LayoutOf, MatricesThatOneProductReads_AreAdjacent) {
  const std::int64_t square = config.inner() * config.d_model;
  for (const std::string prefix : {"encoder.block.1.layer.0.SelfAttention", "decoder.block.0.layer.0.SelfAttention"}) {
    const std::int64_t q = tensor(prefix + ".q.weight").offset;
    EXPECT_EQ(tensor(prefix + ".k.weight").offset, q + square) << prefix;
    EXPECT_EQ(tensor(prefix + ".v.weight").offset, q + 2 * square) << prefix;
  }
  const std::string cross = "decoder.block.0.layer.1.EncDecAttention";
  EXPECT_EQ(tensor(cross + ".v.weight").offset, tensor(cross + ".k.weight").offset + square);
  EXPECT_EQ(layout.encoder_block().qkv, tensor("encoder.block.1.layer.0.SelfAttention.q.weight").offset);
  EXPECT_EQ(layout.encoder_block().o, tensor("encoder.block.0.layer.0.SelfAttention.o.weight").offset);
  EXPECT_EQ(layout.decoder_block().cross_q, tensor(cross + ".q.weight").offset);
  EXPECT_EQ(layout.decoder_block().cross_kv, tensor(cross + ".k.weight").offset);
  EXPECT_EQ(layout.decoder_block().cross_o, tensor(cross + ".o.weight").offset);
  const std::string wide = "decoder.block.0.layer.2.DenseReluDense.";
  EXPECT_EQ(layout.decoder_block().wo, tensor(wide + "wo.weight").offset);
  if (config.gated) {
    EXPECT_EQ(layout.decoder_block().wi, tensor(wide + "wi_0.weight").offset);
    EXPECT_EQ(tensor(wide + "wi_1.weight").offset, layout.decoder_block().wi + config.d_ff * config.d_model);
  } else {
    EXPECT_EQ(layout.decoder_block().wi, tensor(wide + "wi.weight").offset);
  }
}

TEST_P(T5LayoutOf, NormsStandInTheOrderOfTheirSublayers) {
  const PersistentOffsets& at = layout.persistent();
  ASSERT_EQ(at.encoder_norms.size(), static_cast<std::size_t>(2 * config.num_layers + 1));
  ASSERT_EQ(at.decoder_norms.size(), static_cast<std::size_t>(3 * config.num_decoder_layers + 1));

  EXPECT_EQ(at.shared, tensor("shared.weight").offset);
  EXPECT_EQ(at.encoder_norms[3], tensor("encoder.block.1.layer.1.layer_norm.weight").offset);
  EXPECT_EQ(at.encoder_norms.back(), tensor("encoder.final_layer_norm.weight").offset);
  EXPECT_EQ(at.decoder_norms[1], tensor("decoder.block.0.layer.1.layer_norm.weight").offset);
  EXPECT_EQ(at.decoder_norms.back(), tensor("decoder.final_layer_norm.weight").offset);
  EXPECT_EQ(at.decoder_bias, tensor("decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight").offset);
}

TEST_P(T5LayoutOf, NormsAndBiasesAreNotDecayed) {
  ASSERT_EQ(layout.traits().size(), layout.tensors().size());
  for (std::size_t i = 0; i < layout.tensors().size(); ++i) {
    const std::string& name = layout.tensors()[i].name;
    const bool norm = name.find("layer_norm") != std::string::npos;
    const bool bias = name.find("relative_attention_bias") != std::string::npos;
    EXPECT_EQ(layout.traits()[i].decay, !norm && !bias) << name;
    EXPECT_EQ(layout.traits()[i].deviation == 0.0F, norm) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, T5LayoutOf, ::testing::Values("v10", "v11", "odd_heads", "uneven_2_3", "uneven_3_1"),
                         [](const auto& folder) { return std::string(folder.param); });

TEST(T5Layout, StartsFromT5sOwnDeviations) {
  T5Config config;
  config.d_model = 64;
  config.d_kv = 16;
  config.num_heads = 9;
  config.d_ff = 100;
  config.initializer_factor = 2.0;
  config.untied_head = true;
  const T5Layout layout(config);
  std::map<std::string, float> deviations;
  for (std::size_t i = 0; i < layout.tensors().size(); ++i)
    deviations.emplace(layout.tensors()[i].name, layout.traits()[i].deviation);

  const std::string attention = "decoder.block.2.layer.1.EncDecAttention.";
  EXPECT_FLOAT_EQ(deviations.at("shared.weight"), 2.0F);
  EXPECT_FLOAT_EQ(deviations.at("lm_head.weight"), 2.0F);
  EXPECT_FLOAT_EQ(deviations.at(attention + "q.weight"), 2.0F / 32.0F);  // 1 / sqrt(64 · 16)
  EXPECT_FLOAT_EQ(deviations.at(attention + "k.weight"), 2.0F / 8.0F);
  EXPECT_FLOAT_EQ(deviations.at(attention + "v.weight"), 2.0F / 8.0F);
  EXPECT_FLOAT_EQ(deviations.at(attention + "o.weight"), 2.0F / 12.0F);  // 1 / sqrt(9 · 16)
  EXPECT_FLOAT_EQ(deviations.at("encoder.block.0.layer.1.DenseReluDense.wi.weight"), 2.0F / 8.0F);
  EXPECT_FLOAT_EQ(deviations.at("encoder.block.0.layer.1.DenseReluDense.wo.weight"), 2.0F / 10.0F);
  EXPECT_FLOAT_EQ(deviations.at("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"), 2.0F / 8.0F);
}

}  // namespace
}  // namespace spillway::model::test
