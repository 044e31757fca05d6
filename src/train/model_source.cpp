// SPDX-License-Identifier: Apache-2.0
#include "train/model_source.hpp"

#include <algorithm>
#include <filesystem>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "checkpoint/safetensors_file.hpp"
#include "core/error.hpp"
#include "core/text_file.hpp"
#include "model/t5_layout.hpp"

namespace spillway::train {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// Every tensor that the configuration asks for must be there with its shape.
void check_tensors(const checkpoint::SafetensorsFile& file, const model::T5Config& config) {
  const model::T5Layout layout(config);
  for (const TensorSpec& tensor : layout.tensors()) {
    const checkpoint::SafetensorsEntry* found = file.find(tensor.name);
    if (found == nullptr)
      throw DataError(fmt::format("{}: tensor {}: config.json expects shape {}, found no such tensor", file.path(),
                                  tensor.name, tensor.shape.text()));
    if (found->shape.size() > 4 || Shape(found->shape) != tensor.shape)
      throw DataError(fmt::format("{}: tensor {}: config.json expects shape {}, found {}", file.path(), tensor.name,
                                  tensor.shape.text(),
                                  found->shape.size() > 4 ? "more than 4 axes" : Shape(found->shape).text()));
    if (found->dtype != "F32" && found->dtype != "F16" && found->dtype != "BF16")
      throw DataError(
          fmt::format("{}: tensor {}: expected F32, F16 or BF16, found {}", file.path(), tensor.name, found->dtype));
  }
}

bool is_block_name(const std::string& name) { return name.find(".block.") != std::string::npos; }

/// The file must not have blocks, or matrices in them, that the configuration has no place for. Very old files also hold a relative
/// bias of the cross-attention, which nothing ever used.
void check_depth(const checkpoint::SafetensorsFile& file, const model::T5Config& config) {
  const auto tensors = model::T5Layout(config).tensors();
  for (const checkpoint::SafetensorsEntry& entry : file.tensors()) {
    if (!is_block_name(entry.name) ||
        entry.name == "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight")
      continue;
    const bool known = std::any_of(tensors.begin(), tensors.end(),
                                   [&](const TensorSpec& tensor) { return tensor.name == entry.name; });
    if (!known) throw DataError(fmt::format("{}: tensor {}: config.json has no place for it", file.path(), entry.name));
  }
}

std::string find_tokenizer(const ModelOptions& options, const std::string& directory) {
  if (!options.tokenizer.empty()) return options.tokenizer;
  if (directory.empty()) return {};
  const fs::path path = fs::path(directory) / "spiece.model";
  return fs::exists(path) ? path.string() : std::string();
}

}  // namespace

ModelSource open_model(const ModelOptions& options) {
  if (options.path.empty()) throw ConfigError("model.path is not set: name a Hugging Face directory or a preset");
  ModelSource source;
  const fs::path directory = options.path;
  if (!fs::is_directory(directory)) {
    // What looks like a path is one, and not a misspelt preset.
    if (options.path.find('/') != std::string::npos)
      throw DataError(fmt::format("{}: no such directory (model.path)", options.path));
    source.config = model::t5_preset(options.path);
    if (options.init != ModelInit::random)
      throw ConfigError(fmt::format(
          "model.path = \"{}\" is a preset, which has no weights: set model.init = \"random\", or name a directory",
          options.path));
    source.tokenizer = find_tokenizer(options, {});
    return source;
  }
  source.directory = directory.string();
  source.config =
      model::parse_t5_config(read_text((directory / "config.json").string()), (directory / "config.json").string());
  if (fs::exists(directory / "generation_config.json"))
    source.generation_json = read_text((directory / "generation_config.json").string());
  source.tokenizer = find_tokenizer(options, source.directory);
  if (options.init == ModelInit::random) return source;

  const fs::path weights = directory / "model.safetensors";
  if (!fs::exists(weights)) {
    for (const char* other : {"model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"})
      if (fs::exists(directory / other))
        throw ConfigError(fmt::format("{}: expected model.safetensors, found {}, which this version does not read yet",
                                      source.directory, other));
    throw DataError(fmt::format("{}: no model.safetensors (model.init = \"random\" needs none)", source.directory));
  }
  source.weights = weights.string();
  const checkpoint::SafetensorsFile file(source.weights);
  // The head is lm_head.weight if the file has it, whatever tie_word_embeddings says (transformers 5 writes true for both).
  source.config.untied_head = file.find("lm_head.weight") != nullptr;
  check_tensors(file, source.config);
  check_depth(file, source.config);
  const std::string& dtype = file.find("shared.weight")->dtype;
  source.dtype = dtype == "BF16" ? DType::bf16 : dtype == "F16" ? DType::f16 : DType::f32;
  return source;
}

std::unique_ptr<data::Tokenizer> open_tokenizer(const ModelSource& source) {
  if (source.tokenizer.empty())
    throw ConfigError("the model has no spiece.model: set model.tokenizer to a SentencePiece model, or to \"bytes\"");
  if (source.tokenizer == "bytes") return data::make_byte_tokenizer();
  const fs::path settings = fs::path(source.tokenizer).parent_path() / "tokenizer_config.json";
  std::int64_t extra_ids = data::kExtraIds;
  if (fs::exists(settings)) {
    const json object = json::parse(read_text(settings.string()), nullptr, false);
    if (object.is_discarded()) throw DataError(fmt::format("{}: not valid JSON", settings.string()));
    if (object.is_object() && object.contains("extra_ids") && object["extra_ids"].is_number_integer())
      extra_ids = object["extra_ids"].get<std::int64_t>();
  }
  auto tokenizer = data::make_sentencepiece_tokenizer(source.tokenizer, extra_ids);
  // A small model of its own tokenizer has no rows for T5's sentinels.
  if (tokenizer->vocabulary_size() > source.config.vocab_size)
    tokenizer = data::make_sentencepiece_tokenizer(source.tokenizer, 0);
  return tokenizer;
}

}  // namespace spillway::train
