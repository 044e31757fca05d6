// SPDX-License-Identifier: Apache-2.0
#include "model/t5_config.hpp"

#include <algorithm>
#include <array>
#include <string_view>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/edit_distance.hpp"
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

struct Preset {
  std::string_view name;
  std::int64_t d_model, d_ff, d_kv, heads, layers;
  bool version_1_1;
};

// Sizes of the released checkpoints (T5 and T5 v1.1; FLAN has the shapes of v1.1).
constexpr std::array<Preset, 10> kPresets = {{
    {"t5-small", 512, 2048, 64, 8, 6, false},
    {"t5-base", 768, 3072, 64, 12, 12, false},
    {"t5-large", 1024, 4096, 64, 16, 24, false},
    {"t5-3b", 1024, 16384, 128, 32, 24, false},
    {"t5-11b", 1024, 65536, 128, 128, 24, false},
    {"v1_1-small", 512, 1024, 64, 6, 8, true},
    {"v1_1-base", 768, 2048, 64, 12, 12, true},
    {"v1_1-large", 1024, 2816, 64, 16, 24, true},
    {"v1_1-xl", 2048, 5120, 64, 32, 24, true},
    {"v1_1-xxl", 4096, 10240, 64, 64, 24, true},
}};

}  // namespace

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
  if (config.model_type != "t5") keys.fail("model_type", "\"t5\" (mt5, umt5 and byt5 are not supported yet)");
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

  // Some configurations carry only the two keys that transformers derives from feed_forward_proj. There "gated-gelu" means
  // gelu_new, and gelu_pytorch_tanh is the same function.
  const char* key = keys.has("feed_forward_proj") ? "feed_forward_proj" : "dense_act_fn";
  const bool whole = key == std::string_view("feed_forward_proj");
  std::string activation = "relu";
  keys.text(key, activation);
  if (!whole && keys.flag("is_gated_act", false)) activation = "gated-" + activation;
  config.gated = activation == "gated-gelu_new" || activation == "gated-gelu_pytorch_tanh" ||
                 (whole && activation == "gated-gelu");
  if (config.gated) config.activation = kernels::ActivationKind::gelu_new;
  else if (activation != "relu") keys.fail(key, "relu or gated gelu_new (other activations are not supported yet)");

  const bool tied = keys.flag("tie_word_embeddings", true);
  config.scale_logits = keys.flag("scale_decoder_outputs", tied);
  config.untied_head = !tied || !config.scale_logits;

  keys.token("pad_token_id", config.pad_token_id, config.vocab_size);
  keys.token("eos_token_id", config.eos_token_id, config.vocab_size);
  config.decoder_start_token_id = config.pad_token_id;
  keys.token("decoder_start_token_id", config.decoder_start_token_id, config.vocab_size);
  return config;
}

const std::vector<std::string>& preset_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> list;
    for (const Preset& preset : kPresets) list.emplace_back(preset.name);
    return list;
  }();
  return names;
}

T5Config t5_preset(const std::string& name) {
  const auto found =
      std::find_if(kPresets.begin(), kPresets.end(), [&](const Preset& preset) { return preset.name == name; });
  if (found == kPresets.end()) {
    const auto nearest = std::min_element(kPresets.begin(), kPresets.end(), [&](const Preset& a, const Preset& b) {
      return edit_distance(a.name, name) < edit_distance(b.name, name);
    });
    throw ConfigError(fmt::format(
        "model.path = \"{}\" is neither a directory nor a preset; the nearest preset is \"{}\"", name, nearest->name));
  }
  const json object = {{"architectures", {"T5ForConditionalGeneration"}},
                       {"model_type", "t5"},
                       {"is_encoder_decoder", true},
                       {"vocab_size", 32128},
                       {"d_model", found->d_model},
                       {"d_ff", found->d_ff},
                       {"d_kv", found->d_kv},
                       {"num_heads", found->heads},
                       {"num_layers", found->layers},
                       {"num_decoder_layers", found->layers},
                       {"relative_attention_num_buckets", 32},
                       {"relative_attention_max_distance", 128},
                       {"dropout_rate", 0.1},
                       {"layer_norm_epsilon", 1e-6},
                       {"initializer_factor", 1.0},
                       {"feed_forward_proj", found->version_1_1 ? "gated-gelu" : "relu"},
                       {"tie_word_embeddings", !found->version_1_1},
                       {"pad_token_id", 0},
                       {"eos_token_id", 1},
                       {"decoder_start_token_id", 0},
                       {"n_positions", 512},
                       {"use_cache", true}};
  return parse_t5_config(object.dump(2), name);
}

std::string export_config_json(const T5Config& config, DType dtype) {
  json object = json::parse(config.json);
  object["architectures"] = {"T5ForConditionalGeneration"};
  object.erase("_name_or_path");
  object.erase("dtype");
  object["torch_dtype"] = dtype == DType::bf16 ? "bfloat16" : dtype == DType::f16 ? "float16" : "float32";
  // Both keys, so that transformers 4 and 5 read the same head: see docs/hugging-face.md.
  object["tie_word_embeddings"] = !config.untied_head;
  object["scale_decoder_outputs"] = config.scale_logits;
  return object.dump(2) + "\n";
}

}  // namespace spillway::model
