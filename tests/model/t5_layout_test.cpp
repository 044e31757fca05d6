// SPDX-License-Identifier: Apache-2.0
#include "model/t5_layout.hpp"

#include <map>
#include <set>

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
  [[nodiscard]] Place place(const std::string& name) const { return {tensor(name).unit, tensor(name).offset}; }
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
  EXPECT_EQ(layout.unit_name(layout.head().unit), config.untied_head ? "head" : "persistent");
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
  const PersistentPlaces& at = layout.places();
  ASSERT_EQ(at.encoder_norms.size(), static_cast<std::size_t>(2 * config.num_layers + 1));
  ASSERT_EQ(at.decoder_norms.size(), static_cast<std::size_t>(3 * config.num_decoder_layers + 1));

  EXPECT_EQ(at.shared, place("shared.weight"));
  EXPECT_EQ(at.encoder_norms[3], place("encoder.block.1.layer.1.layer_norm.weight"));
  EXPECT_EQ(at.encoder_norms.back(), place("encoder.final_layer_norm.weight"));
  EXPECT_EQ(at.decoder_norms[1], place("decoder.block.0.layer.1.layer_norm.weight"));
  EXPECT_EQ(at.decoder_norms.back(), place("decoder.final_layer_norm.weight"));
}

TEST_P(T5LayoutOf, BlocksShareTheBiasesOfTheirStacksFirst_UnlessEachHasItsOwn) {
  const PersistentPlaces& at = layout.places();
  ASSERT_EQ(at.encoder_biases.size(), static_cast<std::size_t>(config.num_layers));
  ASSERT_EQ(at.decoder_biases.size(), static_cast<std::size_t>(config.num_decoder_layers));

  for (const auto& [stack, biases] : {std::pair("encoder", at.encoder_biases), std::pair("decoder", at.decoder_biases)})
    for (std::size_t block = 0; block < biases.size(); ++block)
      EXPECT_EQ(biases[block],
                place(std::string(stack) + ".block." + std::to_string(config.bias_in_every_block ? block : 0) +
                      ".layer.0.SelfAttention.relative_attention_bias.weight"));
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

INSTANTIATE_TEST_SUITE_P(Models, T5LayoutOf,
                         ::testing::Values("v10", "v11", "odd_heads", "uneven_2_3", "uneven_3_1", "mt5", "umt5",
                                           "byt5"),
                         [](const auto& folder) { return std::string(folder.param); });

/// Names of the tensors in units of which `wanted` is true.
template <typename Wanted>
std::set<std::string> names_in(const T5Layout& layout, const Wanted& wanted) {
  std::set<std::string> names;
  for (const TensorSpec& spec : layout.tensors())
    if (wanted(spec.unit)) names.insert(spec.name);
  return names;
}

std::set<std::string> frozen_names(const T5Layout& layout) {
  return names_in(layout, [&](int unit) { return !layout.trainable(unit); });
}

TEST(FrozenT5Layout, WithNothingFrozen_EveryUnitIsTrainableAndOneIsPersistent) {
  const T5Layout layout(config_of("v11"));

  for (int unit = 0; unit < layout.units(); ++unit) {
    EXPECT_TRUE(layout.trainable(unit)) << unit;
    EXPECT_EQ(layout.persistent(unit), unit == 0) << unit;
  }
}

TEST(FrozenT5Layout, FrozenEmbeddings_AreSharedWeightAlone_AndATiedHeadWithIt) {
  const T5Config tied = config_of("v10");
  const T5Config untied = config_of("v11");
  const T5Layout with_tied(tied, {.embeddings = true});
  const T5Layout with_untied(untied, {.embeddings = true});

  EXPECT_THAT(frozen_names(with_tied), ::testing::ElementsAre("shared.weight"));
  EXPECT_THAT(frozen_names(with_untied), ::testing::ElementsAre("shared.weight"));
  EXPECT_FALSE(with_tied.trainable(with_tied.head().unit));
  EXPECT_TRUE(with_untied.trainable(with_untied.head().unit));
  EXPECT_EQ(with_tied.places().shared.unit, 1);
  EXPECT_TRUE(with_tied.persistent(1));
  EXPECT_FALSE(with_tied.persistent(2));
}

TEST(FrozenT5Layout, AFrozenEncoder_IsAllOfItAndTheEmbeddings) {
  const T5Config config = config_of("uneven_2_3");
  const T5Layout layout(config, {.encoder = true});
  std::set<std::string> wanted = {"shared.weight"};
  for (const TensorSpec& spec : layout.tensors())
    if (spec.name.starts_with("encoder.")) wanted.insert(spec.name);

  EXPECT_EQ(frozen_names(layout), wanted);
  EXPECT_EQ(layout.unit_name(1), "persistent.frozen");
  EXPECT_EQ(layout.unit_name(layout.encoder_unit(0)), "encoder.0");
  EXPECT_EQ(layout.unit_name(layout.decoder_unit(0)), "decoder.0");
  for (const std::string& name : names_in(layout, [&](int unit) { return layout.persistent(unit); }))
    EXPECT_TRUE(name == "shared.weight" || name.find("layer_norm") != std::string::npos ||
                name.find("relative_attention_bias") != std::string::npos)
        << name;
}

TEST(FrozenT5Layout, HoldsTheSameTensors) {
  const T5Config config = config_of("v10");
  const auto all = names_in(T5Layout(config), [](int) { return true; });

  for (const Freezing& freezing : {Freezing{.embeddings = true}, Freezing{.encoder = true}, Freezing{true, true}}) {
    const T5Layout layout(config, freezing);
    EXPECT_EQ(names_in(layout, [](int) { return true; }), all);
    EXPECT_NO_THROW(ShardMap(layout.tensors(), 3));
  }
}

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

/// What trains and initialises asks for the traits of a ShardMap's tensors.
TEST(T5LayoutOf, WhateverIsFrozen_TensorsAreThoseOfTheShardMapAndKeepTheirTraits) {
  const T5Config config;
  std::map<std::string, TensorTraits> unfrozen;
  const T5Layout whole(config);
  for (std::size_t i = 0; i < whole.tensors().size(); ++i) unfrozen[whole.tensors()[i].name] = whole.traits()[i];

  for (const Freezing& freezing : {Freezing{}, Freezing{.embeddings = true}, Freezing{.encoder = true}}) {
    const T5Layout layout(config, freezing);

    EXPECT_EQ(layout.tensors(), ShardMap(layout.tensors(), 2).tensors());
    for (std::size_t i = 0; i < layout.tensors().size(); ++i) {
      const TensorTraits& expected = unfrozen.at(layout.tensors()[i].name);
      EXPECT_EQ(layout.traits()[i].decay, expected.decay) << layout.tensors()[i].name;
      EXPECT_EQ(layout.traits()[i].deviation, expected.deviation) << layout.tensors()[i].name;
      EXPECT_EQ(layout.traits()[i].stream, expected.stream) << layout.tensors()[i].name;
    }
  }
}

}  // namespace
}  // namespace spillway::model::test
