// SPDX-License-Identifier: Apache-2.0
#include "model/t5_config.hpp"

#include <algorithm>
#include <array>
#include <string_view>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "core/json_depth.hpp"

namespace spillway::model {
namespace {

using nlohmann::json;

/// Reads typed keys of one JSON object and names file and key in errors.
class Keys {
 public:
  Keys(const json& object, std::string origin) : object_(object), origin_(std::move(origin)) {}

  [[nodiscard]] bool has(const char* key) const { return object_.contains(key) && !object_.at(key).is_null(); }

  void positive(const char* key, std::int64_t& value, std::int64_t most) const {
    if (!has(key)) return;
    if (object_.at(key).is_number_integer()) value = object_.at(key).get<std::int64_t>();
    if (!object_.at(key).is_number_integer() || value < 1 || value > most)
      fail(key, fmt::format("a whole number from 1 to {}", most));
  }
  void token(const char* key, std::int32_t& value, std::int64_t vocabulary) const {
    if (!has(key)) return;
    if (!object_.at(key).is_number_integer()) fail(key, "a token id");
    const auto id = object_.at(key).get<std::int64_t>();
    if (id < 0 || id >= vocabulary) fail(key, "a token id below vocab_size");
    value = static_cast<std::int32_t>(id);
  }
  void number(const char* key, double& value, double low, double high) const {
    if (!has(key)) return;
    if (!object_.at(key).is_number()) fail(key, "a number");
    value = object_.at(key).get<double>();
    if (!(value >= low && value <= high)) fail(key, fmt::format("a number from {} to {}", low, high));
  }
  void text(const char* key, std::string& value) const {
    if (!has(key)) return;
    if (!object_.at(key).is_string()) fail(key, "a string");
    value = object_.at(key).get<std::string>();
  }
  [[nodiscard]] bool flag(const char* key, bool otherwise) const {
    if (!has(key)) return otherwise;
    if (!object_.at(key).is_boolean()) fail(key, "true or false");
    return object_.at(key).get<bool>();
  }
  [[noreturn]] void fail(const char* key, const std::string& expected) const {
    const std::string found = object_.contains(key) ? object_.at(key).dump() : "nothing";
    throw DataError(fmt::format("{}: key \"{}\": expected {}, found {}", origin_, key, expected, found));
  }

 private:
  const json& object_;
  std::string origin_;
};

// Far above any T5, and low enough that no product of sizes overflows before the tensors' own shapes are compared.
constexpr std::int64_t kMostLayers = 4096;
constexpr std::int64_t kMostWidth = std::int64_t{1} << 20;
constexpr std::int64_t kMostVocabulary = std::int64_t{1} << 24;

using kernels::ActivationKind;

// What ACT2FN calls them. The tanh forms of gelu are one function.
constexpr std::array<std::pair<std::string_view, ActivationKind>, 15> kActivations = {{
    {"relu", ActivationKind::relu},
    {"relu2", ActivationKind::relu_squared},
    {"gelu", ActivationKind::gelu},
    {"gelu_python", ActivationKind::gelu},
    {"gelu_new", ActivationKind::gelu_new},
    {"gelu_fast", ActivationKind::gelu_new},
    {"gelu_accurate", ActivationKind::gelu_new},
    {"gelu_pytorch_tanh", ActivationKind::gelu_new},
    {"gelu_python_tanh", ActivationKind::gelu_new},
    {"quick_gelu", ActivationKind::quick_gelu},
    {"silu", ActivationKind::silu},
    {"swish", ActivationKind::silu},
    {"sigmoid", ActivationKind::sigmoid},
    {"tanh", ActivationKind::tanh},
    {"mish", ActivationKind::mish},
}};

/// feed_forward_proj says it all ("gated-silu"); dense_act_fn and is_gated_act, which transformers derives from it and writes
/// beside it, stand in for it in some files and go before it in all.
void read_activation(const Keys& keys, T5Config& config) {
  std::string name = config.model_type == "t5" ? "relu" : "gated-gelu";
  const char* key = "feed_forward_proj";
  keys.text(key, name);
  const bool short_form = name == "gated-gelu";  // means gelu_new
  config.gated = name.starts_with("gated-");
  if (config.gated) name.erase(0, std::string_view("gated-").size());
  if (short_form) name = "gelu_new";
  if (keys.has("dense_act_fn")) key = "dense_act_fn";
  keys.text("dense_act_fn", name);
  config.gated = keys.flag("is_gated_act", config.gated);
  const auto* const found = std::ranges::find(kActivations, name, [](const auto& entry) { return entry.first; });
  if (found == kActivations.end()) {
    std::string known;
    for (const auto& [activation, kind] : kActivations)
      known += fmt::format("{}{}", known.empty() ? "" : ", ", activation);
    keys.fail(key,
              fmt::format("one of {}{}", known, key == std::string_view("dense_act_fn") ? "" : ", or gated- and one"));
  }
  config.activation = found->second;
}

/// Whose head is it, and is it scaled? The weights have the last word on the first (docs/hugging-face.md).
void read_head(const Keys& keys, T5Config& config) {
  const bool tied = keys.flag("tie_word_embeddings", config.model_type != "mt5");
  const bool scaled = keys.flag("scale_decoder_outputs", tied);
  config.scale_logits = config.model_type == "t5" && scaled;
  config.untied_head = !tied || (config.model_type == "t5" && !scaled);
}

const char* architecture_of(const T5Config& config) {
  if (config.model_type == "mt5") return "MT5ForConditionalGeneration";
  return config.model_type == "umt5" ? "UMT5ForConditionalGeneration" : "T5ForConditionalGeneration";
}

}  // namespace

std::string activation_name(ActivationKind kind) {
  return std::string(std::ranges::find(kActivations, kind, [](const auto& entry) { return entry.second; })->first);
}

T5Config parse_t5_config(const std::string& text, const std::string& origin) {
  check_json_depth(text, origin);
  json object;
  try {
    object = json::parse(text);
  } catch (const json::exception& error) {
    throw DataError(fmt::format("{}: not valid JSON: {}", origin, error.what()));
  }
  if (!object.is_object()) throw DataError(fmt::format("{}: expected a JSON object", origin));
  const Keys keys(object, origin);

  T5Config config;
  config.json = text;
  keys.text("model_type", config.model_type);
  if (config.model_type != "t5" && config.model_type != "mt5" && config.model_type != "umt5")
    keys.fail("model_type", "\"t5\", \"mt5\" or \"umt5\"");
  if (config.model_type != "t5") {  // their classes' own defaults
    config.vocab_size = 250112;
    config.d_ff = 1024;
    config.num_heads = 6;
    config.num_layers = 8;
  }
  config.bias_in_every_block = config.model_type == "umt5";
  keys.positive("vocab_size", config.vocab_size, kMostVocabulary);
  for (const auto& [key, value] : std::initializer_list<std::pair<const char*, std::int64_t*>>{
           {"d_model", &config.d_model},
           {"d_kv", &config.d_kv},
           {"d_ff", &config.d_ff},
           {"num_heads", &config.num_heads},
           {"relative_attention_num_buckets", &config.relative_attention_num_buckets},
           {"relative_attention_max_distance", &config.relative_attention_max_distance}})
    keys.positive(key, *value, kMostWidth);
  if (config.inner() > kMostWidth)
    keys.fail("num_heads", fmt::format("num_heads times d_kv to be at most {}", kMostWidth));
  keys.positive("num_layers", config.num_layers, kMostLayers);
  config.num_decoder_layers = config.num_layers;
  keys.positive("num_decoder_layers", config.num_decoder_layers, kMostLayers);
  if (config.relative_attention_num_buckets < 4 || config.relative_attention_num_buckets % 2 != 0)
    keys.fail("relative_attention_num_buckets", "an even number of at least 4");
  if (config.relative_attention_max_distance <= config.relative_attention_num_buckets / 2)
    keys.fail("relative_attention_max_distance", "more than half the number of buckets");
  keys.number("dropout_rate", config.dropout_rate, 0.0, 0.99);
  keys.number("layer_norm_epsilon", config.layer_norm_epsilon, 0.0, 1.0);
  keys.number("initializer_factor", config.initializer_factor, 0.0, 1e6);

  read_activation(keys, config);
  read_head(keys, config);
  keys.token("pad_token_id", config.pad_token_id, config.vocab_size);
  keys.token("eos_token_id", config.eos_token_id, config.vocab_size);
  config.decoder_start_token_id = config.pad_token_id;
  keys.token("decoder_start_token_id", config.decoder_start_token_id, config.vocab_size);
  return config;
}

std::string export_config_json(const T5Config& config, DType dtype) {
  json object = json::parse(config.json);
  object["architectures"] = {architecture_of(config)};
  object.erase("_name_or_path");
  object.erase("dtype");
  object["torch_dtype"] = dtype == DType::bf16 ? "bfloat16" : dtype == DType::f16 ? "float16" : "float32";
  // Both keys, so that transformers 4 and 5 read the same head: see docs/hugging-face.md.
  object["tie_word_embeddings"] = !config.untied_head;
  if (config.model_type == "t5") object["scale_decoder_outputs"] = config.scale_logits;
  return object.dump(2) + "\n";
}

}  // namespace spillway::model
