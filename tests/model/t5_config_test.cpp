// SPDX-License-Identifier: Apache-2.0
#include "model/t5_config.hpp"

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "model/tiny_model.hpp"

namespace spillway::model::test {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

T5Config parse(const json& object) { return parse_t5_config(object.dump(), "somewhere/config.json"); }

/// The message of the error, which must be a DataError.
std::string error_of(const std::string& text) {
  try {
    (void)parse_t5_config(text, "somewhere/config.json");
  } catch (const DataError& error) {
    return error.what();
  }
  return "no error";
}

TEST(ParseT5Config, NestingThatWouldExhaustTheStack_IsRefused) {
  const std::string deep = std::string(50000, '[') + std::string(50000, ']');

  EXPECT_THAT(error_of("{\"task_specific_params\": " + deep + "}"),
              HasSubstr("somewhere/config.json: the JSON nests deeper than"));
}

TEST(ParseT5Config, ReadsEveryKey) {
  const T5Config config = parse({{"model_type", "t5"},
                                 {"vocab_size", 97},
                                 {"d_model", 28},
                                 {"d_kv", 12},
                                 {"d_ff", 52},
                                 {"num_heads", 3},
                                 {"num_layers", 2},
                                 {"num_decoder_layers", 5},
                                 {"relative_attention_num_buckets", 8},
                                 {"relative_attention_max_distance", 12},
                                 {"dropout_rate", 0.2},
                                 {"layer_norm_epsilon", 1e-5},
                                 {"initializer_factor", 0.5},
                                 {"feed_forward_proj", "gated-gelu"},
                                 {"tie_word_embeddings", false},
                                 {"pad_token_id", 3},
                                 {"eos_token_id", 2},
                                 {"decoder_start_token_id", 4}});

  EXPECT_EQ(config.vocab_size, 97);
  EXPECT_EQ(config.d_model, 28);
  EXPECT_EQ(config.d_ff, 52);
  EXPECT_EQ(config.inner(), 36);
  EXPECT_EQ(config.ff_in(), 104);
  EXPECT_EQ(config.num_layers, 2);
  EXPECT_EQ(config.num_decoder_layers, 5);
  EXPECT_EQ(config.relative_attention_num_buckets, 8);
  EXPECT_EQ(config.relative_attention_max_distance, 12);
  EXPECT_EQ(config.dropout_rate, 0.2);
  EXPECT_EQ(config.layer_norm_epsilon, 1e-5);
  EXPECT_EQ(config.initializer_factor, 0.5);
  EXPECT_EQ(config.activation, kernels::ActivationKind::gelu_new);
  EXPECT_TRUE(config.gated);
  EXPECT_TRUE(config.untied_head);
  EXPECT_FALSE(config.scale_logits);
  EXPECT_EQ(config.pad_token_id, 3);
  EXPECT_EQ(config.eos_token_id, 2);
  EXPECT_EQ(config.decoder_start_token_id, 4);
}

TEST(ParseT5Config, WhatIsAbsentOrNull_IsAsInT5Small) {
  const T5Config config = parse({{"num_layers", 3}, {"d_ff", nullptr}, {"pad_token_id", 7}});

  EXPECT_EQ(config.vocab_size, 32128);
  EXPECT_EQ(config.d_model, 512);
  EXPECT_EQ(config.d_ff, 2048);
  EXPECT_EQ(config.num_decoder_layers, 3);
  EXPECT_EQ(config.relative_attention_num_buckets, 32);
  EXPECT_EQ(config.relative_attention_max_distance, 128);
  EXPECT_EQ(config.activation, kernels::ActivationKind::relu);
  EXPECT_FALSE(config.gated);
  EXPECT_FALSE(config.untied_head);
  EXPECT_TRUE(config.scale_logits);
  EXPECT_EQ(config.decoder_start_token_id, 7);
}

TEST(ParseT5Config, WhatIsAbsentInAnotherType_IsAsInItsClass) {
  for (const char* type : {"mt5", "umt5"}) {
    const T5Config config = parse({{"model_type", type}});

    EXPECT_EQ(config.vocab_size, 250112) << type;
    EXPECT_EQ(config.d_ff, 1024) << type;
    EXPECT_EQ(config.num_heads, 6) << type;
    EXPECT_EQ(config.num_decoder_layers, 8) << type;
    EXPECT_EQ(config.bias_in_every_block, std::string(type) == "umt5");
  }
}

struct Head {
  const char* name;
  json keys;
  bool scaled, untied;
};
class ParseT5ConfigHead : public ::testing::TestWithParam<Head> {};

TEST_P(ParseT5ConfigHead, IsReadInBothStyles) {
  const T5Config config = parse(GetParam().keys);

  EXPECT_EQ(config.scale_logits, GetParam().scaled);
  EXPECT_EQ(config.untied_head, GetParam().untied);
}

INSTANTIATE_TEST_SUITE_P(
    Styles, ParseT5ConfigHead,
    ::testing::Values(
        Head{"four_tied", json{{"tie_word_embeddings", true}}, true, false},
        Head{"four_untied", json{{"tie_word_embeddings", false}}, false, true},
        Head{"five_tied", json{{"tie_word_embeddings", true}, {"scale_decoder_outputs", true}}, true, false},
        Head{"five_untied", json{{"tie_word_embeddings", true}, {"scale_decoder_outputs", false}}, false, true},
        Head{"mt5", json{{"model_type", "mt5"}, {"tie_word_embeddings", false}}, false, true},
        Head{"mt5_of_transformers_5", json{{"model_type", "mt5"}, {"tie_word_embeddings", true}}, false, false},
        Head{"umt5", json{{"model_type", "umt5"}, {"tie_word_embeddings", false}}, false, true},
        Head{"untied_and_scaled", json{{"tie_word_embeddings", false}, {"scale_decoder_outputs", true}}, true, true}),
    [](const auto& style) { return std::string(style.param.name); });

TEST(ParseT5Config, TheSameModelInBothStyles_IsTheSame) {
  for (const char* name : {"v10", "v11"}) {
    const T5Config four = parse_t5_config(reference_text(std::string(name) + "/config.json"), name);
    const T5Config five = parse_t5_config(reference_text(std::string(name) + "_resaved/config.json"), name);

    EXPECT_EQ(five.scale_logits, four.scale_logits) << name;
    EXPECT_EQ(five.untied_head, four.untied_head) << name;
    EXPECT_EQ(five.gated, four.gated) << name;
    EXPECT_EQ(five.d_ff, four.d_ff) << name;
  }
}

struct Activation {
  json keys;
  kernels::ActivationKind kind;
  bool gated;
};

TEST(ParseT5Config, Activation_IsReadFromEitherKey) {
  using kernels::ActivationKind;
  const std::vector<Activation> cases = {
      {{{"feed_forward_proj", "relu"}}, ActivationKind::relu, false},
      {{{"feed_forward_proj", "gated-relu"}}, ActivationKind::relu, true},
      {{{"feed_forward_proj", "relu2"}}, ActivationKind::relu_squared, false},
      {{{"feed_forward_proj", "gelu"}}, ActivationKind::gelu, false},
      {{{"feed_forward_proj", "gated-gelu"}}, ActivationKind::gelu_new, true},
      {{{"feed_forward_proj", "gated-gelu_new"}}, ActivationKind::gelu_new, true},
      {{{"feed_forward_proj", "gelu_fast"}}, ActivationKind::gelu_new, false},
      {{{"feed_forward_proj", "gated-quick_gelu"}}, ActivationKind::quick_gelu, true},
      {{{"feed_forward_proj", "gated-silu"}}, ActivationKind::silu, true},
      {{{"feed_forward_proj", "swish"}}, ActivationKind::silu, false},
      {{{"feed_forward_proj", "sigmoid"}}, ActivationKind::sigmoid, false},
      {{{"feed_forward_proj", "gated-tanh"}}, ActivationKind::tanh, true},
      {{{"feed_forward_proj", "mish"}}, ActivationKind::mish, false},
      {{{"feed_forward_proj", "gated-gelu"}, {"dense_act_fn", "gelu_new"}}, ActivationKind::gelu_new, true},
      {{{"feed_forward_proj", "gated-gelu"}, {"dense_act_fn", "gelu"}}, ActivationKind::gelu, true},
      {{{"model_type", "mt5"}}, ActivationKind::gelu_new, true},
      {{{"dense_act_fn", "relu"}}, ActivationKind::relu, false},
      {{{"dense_act_fn", "gelu_new"}}, ActivationKind::gelu_new, false},
      {{{"dense_act_fn", "gelu_new"}, {"is_gated_act", true}}, ActivationKind::gelu_new, true},
      {{{"dense_act_fn", "gelu"}, {"is_gated_act", true}}, ActivationKind::gelu, true},
      {{{"dense_act_fn", "gelu_pytorch_tanh"}, {"is_gated_act", true}}, ActivationKind::gelu_new, true}};
  for (const Activation& entry : cases) {
    const T5Config config = parse(entry.keys);

    EXPECT_EQ(config.activation, entry.kind) << entry.keys;
    EXPECT_EQ(config.gated, entry.gated) << entry.keys;
  }
}

struct Wrong {
  json keys;
  const char* key;
  const char* found;
};

TEST(ParseT5Config, WhatIsWrong_IsNamedWithFileKeyAndValue) {
  const std::vector<Wrong> cases = {
      {{{"model_type", "longt5"}}, "model_type", "\"longt5\""},
      {{{"model_type", 5}}, "model_type", "5"},
      {{{"vocab_size", 0}}, "vocab_size", "0"},
      {{{"vocab_size", 1LL << 40}}, "vocab_size", "1099511627776"},
      {{{"vocab_size", 18446744073709551615ULL}}, "vocab_size", "18446744073709551615"},
      {{{"d_model", "512"}}, "d_model", "\"512\""},
      {{{"d_kv", -1}}, "d_kv", "-1"},
      {{{"d_ff", 1.5}}, "d_ff", "1.5"},
      {{{"num_heads", json::array()}}, "num_heads", "[]"},
      {{{"num_heads", 1 << 16}, {"d_kv", 1 << 16}}, "num_heads", "65536"},
      {{{"num_layers", 2147483648LL}}, "num_layers", "2147483648"},
      {{{"num_decoder_layers", false}}, "num_decoder_layers", "false"},
      {{{"relative_attention_num_buckets", 7}}, "relative_attention_num_buckets", "7"},
      {{{"relative_attention_num_buckets", 2}}, "relative_attention_num_buckets", "2"},
      {{{"relative_attention_max_distance", 16}}, "relative_attention_max_distance", "16"},
      {{{"dropout_rate", "none"}}, "dropout_rate", "\"none\""},
      {{{"dropout_rate", 1.0}}, "dropout_rate", "1.0"},
      {{{"layer_norm_epsilon", -1e-6}}, "layer_norm_epsilon", "-1e-06"},
      {{{"initializer_factor", true}}, "initializer_factor", "true"},
      {{{"feed_forward_proj", "gated-laplace"}}, "feed_forward_proj", "\"gated-laplace\""},
      {{{"feed_forward_proj", "open-relu"}}, "feed_forward_proj", "\"open-relu\""},
      {{{"feed_forward_proj", "gated-gated-gelu"}}, "feed_forward_proj", "\"gated-gated-gelu\""},
      {{{"feed_forward_proj", 1}}, "feed_forward_proj", "1"},
      {{{"dense_act_fn", "gated-silu"}}, "dense_act_fn", "\"gated-silu\""},
      {{{"dense_act_fn", "gelu_new"}, {"is_gated_act", "yes"}}, "is_gated_act", "\"yes\""},
      {{{"tie_word_embeddings", 1}}, "tie_word_embeddings", "1"},
      {{{"scale_decoder_outputs", "no"}}, "scale_decoder_outputs", "\"no\""},
      {{{"pad_token_id", -1}}, "pad_token_id", "-1"},
      {{{"eos_token_id", 32128}}, "eos_token_id", "32128"},
      {{{"eos_token_id", 4294967297LL}}, "eos_token_id", "4294967297"},
      {{{"decoder_start_token_id", "0"}}, "decoder_start_token_id", "\"0\""}};
  for (const Wrong& entry : cases)
    EXPECT_THAT(error_of(entry.keys.dump()),
                AllOf(HasSubstr("somewhere/config.json: key \"" + std::string(entry.key) + "\": expected "),
                      HasSubstr("found " + std::string(entry.found))));
}

TEST(ParseT5Config, WhatIsNoJsonObject_IsRefusedWithTheFile) {
  EXPECT_THAT(error_of("{\"d_model\": "), HasSubstr("somewhere/config.json: not valid JSON"));
  EXPECT_THAT(error_of("[1, 2]"), HasSubstr("somewhere/config.json: expected a JSON object"));
  EXPECT_THAT(error_of(""), HasSubstr("somewhere/config.json: not valid JSON"));
}

TEST(ExportConfigJson, KeepsOtherKeysAndSaysBothStyles) {
  T5Config config = parse({{"num_layers", 2},
                           {"_name_or_path", "/home/me/t5"},
                           {"dtype", "bfloat16"},
                           {"tie_word_embeddings", true},
                           {"scale_decoder_outputs", false},
                           {"task_specific_params", {{"summarization", {{"num_beams", 4}}}}}});
  config.untied_head = true;

  const json exported = json::parse(export_config_json(config, DType::bf16));

  EXPECT_EQ(exported.at("architectures"), json::array({"T5ForConditionalGeneration"}));
  EXPECT_EQ(exported.at("tie_word_embeddings"), false);
  EXPECT_EQ(exported.at("scale_decoder_outputs"), false);
  EXPECT_EQ(exported.at("torch_dtype"), "bfloat16");
  EXPECT_EQ(exported.at("task_specific_params").at("summarization").at("num_beams"), 4);
  EXPECT_FALSE(exported.contains("_name_or_path"));
  EXPECT_FALSE(exported.contains("dtype"));
}

TEST(ExportConfigJson, OfAnotherType_NamesItsClassAndHasNoScale) {
  for (const auto& [type, architecture] :
       {std::pair("mt5", "MT5ForConditionalGeneration"), std::pair("umt5", "UMT5ForConditionalGeneration")}) {
    const T5Config config = parse({{"model_type", type}, {"tie_word_embeddings", false}});

    const json exported = json::parse(export_config_json(config, DType::f16));

    EXPECT_EQ(exported.at("architectures"), json::array({architecture}));
    EXPECT_EQ(exported.at("tie_word_embeddings"), false);
    EXPECT_EQ(exported.at("torch_dtype"), "float16");
    EXPECT_FALSE(exported.contains("scale_decoder_outputs"));
  }
}

}  // namespace
}  // namespace spillway::model::test
