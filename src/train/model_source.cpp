// SPDX-License-Identifier: Apache-2.0
#include "train/model_source.hpp"

#include <algorithm>
#include <filesystem>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "checkpoint/files.hpp"
#include "checkpoint/stored_values.hpp"
#include "checkpoint/weight_reader.hpp"
#include "core/error.hpp"
#include "core/json_depth.hpp"
#include "core/text_file.hpp"
#include "model/t5_layout.hpp"
#include "model/t5_presets.hpp"

namespace spillway::train {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

bool is_there(const fs::path& path) { return checkpoint::type_of_input(path.string()) != fs::file_type::not_found; }

/// Every tensor that the configuration asks for must be there with its shape.
void check_tensors(const checkpoint::WeightReader& file, const model::T5Config& config) {
  const model::T5Layout layout(config);
  for (const TensorSpec& tensor : layout.tensors()) {
    const checkpoint::StoredTensor* found = file.find(tensor.name);
    if (found == nullptr)
      throw DataError(fmt::format("{}: tensor {}: config.json expects shape {}, found no such tensor", file.path(),
                                  tensor.name, tensor.shape.text()));
    if (found->shape.size() > 4 || Shape(found->shape) != tensor.shape)
      throw DataError(fmt::format("{}: tensor {}: config.json expects shape {}, found {}", file.path(), tensor.name,
                                  tensor.shape.text(),
                                  found->shape.size() > 4 ? "more than 4 axes" : Shape(found->shape).text()));
    if (!checkpoint::is_float_dtype(found->dtype))
      throw DataError(fmt::format("{}: tensor {}: expected F64, F32, F16 or BF16, found {}", file.path(), tensor.name,
                                  found->dtype));
  }
}

bool is_block_name(const std::string& name) { return name.find(".block.") != std::string::npos; }

/// The file must not have blocks, or matrices in them, that the configuration has no place for. Very old files also hold a relative
/// bias of the cross-attention, which nothing ever used.
void check_depth(const checkpoint::WeightReader& file, const model::T5Config& config) {
  const auto tensors = model::T5Layout(config).tensors();
  for (const checkpoint::StoredTensor& entry : file.tensors()) {
    if (!is_block_name(entry.name) ||
        entry.name == "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight")
      continue;
    const bool known = std::any_of(tensors.begin(), tensors.end(),
                                   [&](const TensorSpec& tensor) { return tensor.name == entry.name; });
    if (!known) throw DataError(fmt::format("{}: tensor {}: config.json has no place for it", file.path(), entry.name));
  }
}

bool equal_values(const checkpoint::WeightReader& file, const std::string& a, const std::string& b) {
  const checkpoint::StoredTensor* one = file.find(a);
  const checkpoint::StoredTensor* other = file.find(b);
  if (one->shape != other->shape) return false;
  constexpr std::int64_t kPiece = std::int64_t{1} << 18;
  std::vector<float> left, right;
  for (std::int64_t begin = 0; begin < one->elements(); begin += kPiece) {
    left.resize(static_cast<std::size_t>(std::min(kPiece, one->elements() - begin)));
    right.resize(left.size());
    file.read(a, begin, left);
    file.read(b, begin, right);
    if (left != right) return false;
  }
  return true;
}

/// The head is lm_head.weight if the file has it, whatever tie_word_embeddings says (transformers 5 writes true for all), unless it is
/// the embeddings again: pytorch_model.bin has tied tensors under each of their names.
bool has_untied_head(const checkpoint::WeightReader& file, const model::T5Config& config) {
  const std::string head = "lm_head.weight";
  const std::string shared = "shared.weight";
  if (file.find(head) == nullptr) return false;
  if (file.find(shared) == nullptr) return true;
  if (file.same_storage(head, shared)) return false;
  return config.untied_head || !equal_values(file, head, shared);
}

/// A JSON object beside the model's other files; empty if there is none.
json read_settings(const fs::path& path) {
  if (!is_there(path)) return json::object();
  const std::string text = read_text(path.string());
  check_json_depth(text, path.string());
  json object = json::parse(text, nullptr, false);
  if (!object.is_object()) throw DataError(fmt::format("{}: expected a JSON object", path.string()));
  return object;
}

constexpr std::int64_t kByteVocabulary = 384;

std::string find_tokenizer(const ModelOptions& options, const std::string& directory, const model::T5Config& config) {
  if (!options.tokenizer.empty()) return options.tokenizer;
  if (!directory.empty()) {
    const json settings = read_settings(fs::path(directory) / "tokenizer_config.json");
    if (settings.contains("tokenizer_class") && settings["tokenizer_class"] == "ByT5Tokenizer") return "bytes";
    const fs::path path = fs::path(directory) / "spiece.model";
    if (is_there(path)) return path.string();
  }
  return config.vocab_size == kByteVocabulary ? "bytes" : "";
}

}  // namespace

ModelSource open_model(const ModelOptions& options) {
  if (options.path.empty()) throw ConfigError("model.path is not set: name a Hugging Face directory or a preset");
  ModelSource source;
  const fs::path directory = options.path;
  if (checkpoint::type_of_input(options.path) != fs::file_type::directory) {
    // What looks like a path is one, and not a misspelt preset.
    if (options.path.find('/') != std::string::npos)
      throw DataError(fmt::format("{}: no such directory (model.path)", options.path));
    source.config = model::t5_preset(options.path);
    if (options.init != ModelInit::random)
      throw ConfigError(fmt::format(
          "model.path = \"{}\" is a preset, which has no weights: set model.init = \"random\", or name a directory",
          options.path));
    source.tokenizer = find_tokenizer(options, {}, source.config);
    return source;
  }
  source.directory = directory.string();
  source.config =
      model::parse_t5_config(read_text((directory / "config.json").string()), (directory / "config.json").string());
  if (is_there(directory / "generation_config.json"))
    source.generation_json = read_text((directory / "generation_config.json").string());
  source.tokenizer = find_tokenizer(options, source.directory, source.config);
  if (options.init == ModelInit::random) return source;

  source.weights = checkpoint::find_weights(source.directory);
  if (source.weights.empty())
    throw DataError(fmt::format("{}: no model.safetensors or pytorch_model.bin (model.init = \"random\" needs none)",
                                source.directory));
  const auto file = checkpoint::open_weights(source.weights);
  source.config.untied_head = has_untied_head(*file, source.config);
  check_tensors(*file, source.config);
  check_depth(*file, source.config);
  const std::string& dtype = file->find("shared.weight")->dtype;
  source.dtype = dtype == "BF16" ? DType::bf16 : dtype == "F16" ? DType::f16 : DType::f32;
  return source;
}

std::unique_ptr<data::Tokenizer> open_tokenizer(const ModelSource& source) {
  if (source.tokenizer.empty())
    throw ConfigError("the model has no spiece.model: set model.tokenizer to a SentencePiece model, or to \"bytes\"");
  if (source.tokenizer == "bytes") return data::make_byte_tokenizer();
  const fs::path path = fs::path(source.tokenizer).parent_path() / "tokenizer_config.json";
  const json settings = read_settings(path);
  std::int64_t extra_ids = data::kExtraIds;
  if (settings.contains("extra_ids") && settings["extra_ids"].is_number_integer())
    extra_ids = settings["extra_ids"].get<std::int64_t>();
  if (extra_ids < 0 || extra_ids > source.config.vocab_size)
    throw DataError(fmt::format("{}: key \"extra_ids\": expected 0 to vocab_size, which is {}, found {}", path.string(),
                                source.config.vocab_size, settings["extra_ids"].dump()));
  auto tokenizer = data::make_sentencepiece_tokenizer(source.tokenizer, extra_ids);
  // A small model of its own tokenizer has no rows for T5's sentinels.
  if (tokenizer->vocabulary_size() > source.config.vocab_size)
    tokenizer = data::make_sentencepiece_tokenizer(source.tokenizer, 0);
  return tokenizer;
}

DType export_dtype(ExportDType asked, DType of_model) {
  switch (asked) {
    case ExportDType::automatic: return of_model;
    case ExportDType::fp32: return DType::f32;
    case ExportDType::bf16: return DType::bf16;
    case ExportDType::fp16: return DType::f16;
  }
  return of_model;
}

}  // namespace spillway::train
