// SPDX-License-Identifier: Apache-2.0
#include "model/t5_presets.hpp"

#include <algorithm>
#include <array>
#include <string_view>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/edit_distance.hpp"
#include "core/error.hpp"

namespace spillway::model {
namespace {

enum class Family { t5, v1_1, mt5, byt5 };

struct Preset {
  std::string_view name;
  std::int64_t d_model, d_ff, d_kv, heads, layers, decoder_layers;
  Family family;
};

// Sizes of the released checkpoints.
constexpr std::array<Preset, 16> kPresets = {{
    {"t5-small", 512, 2048, 64, 8, 6, 6, Family::t5},
    {"t5-base", 768, 3072, 64, 12, 12, 12, Family::t5},
    {"t5-large", 1024, 4096, 64, 16, 24, 24, Family::t5},
    {"t5-3b", 1024, 16384, 128, 32, 24, 24, Family::t5},
    {"t5-11b", 1024, 65536, 128, 128, 24, 24, Family::t5},
    {"v1_1-small", 512, 1024, 64, 6, 8, 8, Family::v1_1},
    {"v1_1-base", 768, 2048, 64, 12, 12, 12, Family::v1_1},
    {"v1_1-large", 1024, 2816, 64, 16, 24, 24, Family::v1_1},
    {"v1_1-xl", 2048, 5120, 64, 32, 24, 24, Family::v1_1},
    {"v1_1-xxl", 4096, 10240, 64, 64, 24, 24, Family::v1_1},
    {"mt5-small", 512, 1024, 64, 6, 8, 8, Family::mt5},
    {"mt5-base", 768, 2048, 64, 12, 12, 12, Family::mt5},
    {"mt5-large", 1024, 2816, 64, 16, 24, 24, Family::mt5},
    {"mt5-xl", 2048, 5120, 64, 32, 24, 24, Family::mt5},
    {"mt5-xxl", 4096, 10240, 64, 64, 24, 24, Family::mt5},
    {"byt5-small", 1472, 3584, 64, 6, 12, 4, Family::byt5},
}};

// Released models of the family that are no presets.
constexpr std::array<std::string_view, 4> kDirectoriesOnly = {"byt5-base", "byt5-large", "byt5-xl", "byt5-xxl"};

std::int64_t vocabulary_of(Family family) {
  switch (family) {
    case Family::mt5: return 250112;
    case Family::byt5: return 384;
    default: return 32128;
  }
}

}  // namespace

const std::vector<std::string>& preset_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> list;
    for (const Preset& preset : kPresets) list.emplace_back(preset.name);
    return list;
  }();
  return names;
}

T5Config t5_preset(const std::string& name) {
  const auto* const found = std::ranges::find(kPresets, name, &Preset::name);
  if (found == kPresets.end() && std::ranges::find(kDirectoriesOnly, name) != kDirectoriesOnly.end())
    throw ConfigError(fmt::format(
        "model.path = \"{}\" is neither a directory nor a preset: of ByT5 byt5-small alone is one, this model is "
        "read from a directory that it was downloaded to",
        name));
  if (found == kPresets.end()) {
    const auto* const nearest =
        std::ranges::min_element(kPresets, {}, [&](const Preset& preset) { return edit_distance(preset.name, name); });
    throw ConfigError(fmt::format(
        "model.path = \"{}\" is neither a directory nor a preset; the nearest preset is \"{}\"", name, nearest->name));
  }
  const bool multilingual = found->family == Family::mt5;
  const nlohmann::json object = {
      {"architectures", {multilingual ? "MT5ForConditionalGeneration" : "T5ForConditionalGeneration"}},
      {"model_type", multilingual ? "mt5" : "t5"},
      {"is_encoder_decoder", true},
      {"vocab_size", vocabulary_of(found->family)},
      {"d_model", found->d_model},
      {"d_ff", found->d_ff},
      {"d_kv", found->d_kv},
      {"num_heads", found->heads},
      {"num_layers", found->layers},
      {"num_decoder_layers", found->decoder_layers},
      {"relative_attention_num_buckets", 32},
      {"relative_attention_max_distance", 128},
      {"dropout_rate", 0.1},
      {"layer_norm_epsilon", 1e-6},
      {"initializer_factor", 1.0},
      {"feed_forward_proj", found->family == Family::t5 ? "relu" : "gated-gelu"},
      {"tie_word_embeddings", found->family == Family::t5},
      {"tokenizer_class", found->family == Family::byt5 ? "ByT5Tokenizer" : "T5Tokenizer"},
      {"pad_token_id", 0},
      {"eos_token_id", 1},
      {"decoder_start_token_id", 0},
      {"n_positions", 512},
      {"use_cache", true}};
  return parse_t5_config(object.dump(2), name);
}

}  // namespace spillway::model
