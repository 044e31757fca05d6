// SPDX-License-Identifier: Apache-2.0
#include "train/hugging_face.hpp"

#include <cmath>
#include <filesystem>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "checkpoint/files.hpp"
#include "checkpoint/safetensors_file.hpp"
#include "core/error.hpp"
#include "core/text_file.hpp"

namespace spillway::train {
namespace {

namespace fs = std::filesystem;

std::vector<checkpoint::SafetensorsSpec> specs_of(const model::T5Layout& layout, DType dtype) {
  std::vector<checkpoint::SafetensorsSpec> specs;
  for (const TensorSpec& tensor : layout.tensors()) {
    checkpoint::SafetensorsSpec spec{.name = tensor.name, .dtype = dtype, .shape = {}};
    for (int axis = 0; axis < tensor.shape.rank(); ++axis) spec.shape.push_back(tensor.shape[axis]);
    specs.push_back(std::move(spec));
  }
  return specs;
}

constexpr const char* kHead = "lm_head.weight";
constexpr const char* kWeights = "model.safetensors";
// In the weights' metadata: other programs that write a model again leave it out.
constexpr const char* kMark = "writer";
constexpr const char* kOurs = "spillway";

/// What a head of its own is multiplied by in the file, so that it needs no scaling: transformers 4 scales the logits of
/// tied heads only.
float head_factor(const model::T5Config& config) {
  return config.untied_head && config.scale_logits ? 1.0F / std::sqrt(static_cast<float>(config.d_model)) : 1.0F;
}

/// What turns errors of std::filesystem into ours.
template <typename Work>
void with_io_errors(const Work& work) {
  try {
    work();
  } catch (const fs::filesystem_error& error) {
    throw IoError(error.path1().string() + ": cannot be written", error.code().value());
  }
}

/// The folder that a path means, so that names beside it can be made: "hf/" is "hf", a link is what it points to.
std::string real_path(const std::string& directory) {
  fs::path path;
  with_io_errors([&] { path = fs::weakly_canonical(fs::absolute(directory)); });
  return (path.has_filename() ? path : path.parent_path()).string();
}

/// Whether the weights in a folder are an export of ours.
bool has_mark(const std::string& directory) {
  try {
    const checkpoint::SafetensorsFile weights(directory + "/" + kWeights);
    const auto mark = weights.metadata().find(kMark);
    return mark != weights.metadata().end() && mark->second == kOurs;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

void check_export_directory(const std::string& directory) {
  with_io_errors([&] {
    if (!fs::exists(directory) || (fs::is_directory(directory) && fs::is_empty(directory))) return;
    bool other = !fs::is_directory(directory) || !fs::exists(fs::path(directory) / "config.json");
    if (!other)
      for (const fs::directory_entry& entry : fs::directory_iterator(directory)) other = other || entry.is_directory();
    if (other || !has_mark(directory))
      throw ConfigError(
          fmt::format("{}: an export replaces all of it: expected a new folder, an empty one, or an earlier export of "
                      "Spillway (config.json, model.safetensors with its mark, no folders), found something else",
                      directory));
  });
}

HuggingFaceWriter::HuggingFaceWriter(std::string directory, const ModelSource& source, const model::T5Layout& layout)
    : directory_(real_path(directory)), source_(source), weights_(specs_of(layout, source.dtype), {{kMark, kOurs}}) {}

std::string HuggingFaceWriter::folder() const { return directory_ + ".spillway-new"; }
std::string HuggingFaceWriter::weights_path() const { return folder() + "/" + kWeights; }

void HuggingFaceWriter::create() const {
  check_export_directory(directory_);
  with_io_errors([&] {
    const fs::path folder = this->folder();
    fs::remove_all(folder);
    fs::create_directories(folder);
    model::T5Config config = source_.config;
    if (config.untied_head) config.scale_logits = false;
    write_text((folder / "config.json").string(), model::export_config_json(config, source_.dtype));
    const std::string generation =
        source_.generation_json.empty()
            ? nlohmann::json{{"decoder_start_token_id", source_.config.decoder_start_token_id},
                             {"eos_token_id", source_.config.eos_token_id},
                             {"pad_token_id", source_.config.pad_token_id}}
                      .dump(2) +
                  "\n"
            : source_.generation_json;
    write_text((folder / "generation_config.json").string(), generation);
    if (source_.tokenizer == "bytes") {
      write_text((folder / "tokenizer_config.json").string(),
                 nlohmann::json{{"tokenizer_class", "ByT5Tokenizer"}, {"extra_ids", 125}}.dump(2) + "\n");
    } else if (!source_.tokenizer.empty()) {
      fs::copy_file(source_.tokenizer, folder / "spiece.model");
      const fs::path beside = fs::path(source_.tokenizer).parent_path();
      for (const char* name : {"tokenizer_config.json", "special_tokens_map.json", "tokenizer.json"})
        if (fs::exists(beside / name)) fs::copy_file(beside / name, folder / name);
    }
  });
  weights_.create(weights_path());
}

void HuggingFaceWriter::write(const std::string& tensor, std::int64_t begin, std::span<const float> values) const {
  const float factor = head_factor(source_.config);
  if (tensor != kHead || factor == 1.0F) return weights_.write_slice(weights_path(), tensor, begin, values);
  std::vector<float> scaled(values.begin(), values.end());
  for (float& value : scaled) value *= factor;
  weights_.write_slice(weights_path(), tensor, begin, scaled);
}

void HuggingFaceWriter::commit() const {
  with_io_errors([&] {
    for (const fs::directory_entry& entry : fs::directory_iterator(folder())) checkpoint::sync_path(entry.path());
  });
  weights_.commit(weights_path());  // syncs the folder too
  const std::string replaced = directory_ + ".spillway-old";
  checkpoint::put_in_place(folder(), directory_, replaced);
  checkpoint::sync_path(checkpoint::folder_of(directory_));
  checkpoint::remove_path(folder());
  checkpoint::remove_path(replaced);
}

}  // namespace spillway::train
