// SPDX-License-Identifier: Apache-2.0
#include "train/hugging_face.hpp"

#include <filesystem>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

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

/// What turns errors of std::filesystem into ours.
template <typename Work>
void with_io_errors(const Work& work) {
  try {
    work();
  } catch (const fs::filesystem_error& error) {
    throw IoError(error.path1().string() + ": cannot be written", error.code().value());
  }
}

}  // namespace

HuggingFaceWriter::HuggingFaceWriter(std::string directory, const ModelSource& source, const model::T5Layout& layout)
    : directory_(std::move(directory)), source_(source), weights_(specs_of(layout, source.dtype)) {}

std::string HuggingFaceWriter::weights_path() const { return directory_ + ".tmp/model.safetensors"; }

void HuggingFaceWriter::create() const {
  with_io_errors([&] {
    const fs::path folder = directory_ + ".tmp";
    fs::remove_all(folder);
    fs::create_directories(folder);
    write_text((folder / "config.json").string(), model::export_config_json(source_.config, source_.dtype));
    const std::string generation =
        source_.generation_json.empty()
            ? nlohmann::json{{"decoder_start_token_id", source_.config.decoder_start_token_id},
                             {"eos_token_id", source_.config.eos_token_id},
                             {"pad_token_id", source_.config.pad_token_id}}
                      .dump(2) +
                  "\n"
            : source_.generation_json;
    write_text((folder / "generation_config.json").string(), generation);
    if (!source_.tokenizer.empty() && source_.tokenizer != "bytes") {
      fs::copy_file(source_.tokenizer, folder / "spiece.model");
      const fs::path beside = fs::path(source_.tokenizer).parent_path();
      for (const char* name : {"tokenizer_config.json", "special_tokens_map.json", "tokenizer.json"})
        if (fs::exists(beside / name)) fs::copy_file(beside / name, folder / name);
    }
  });
  weights_.create(weights_path());
}

void HuggingFaceWriter::write(const std::string& tensor, std::int64_t begin, std::span<const float> values) const {
  weights_.write_slice(weights_path(), tensor, begin, values);
}

void HuggingFaceWriter::commit() const {
  weights_.commit(weights_path());
  with_io_errors([&] {
    fs::remove_all(directory_);
    fs::rename(directory_ + ".tmp", directory_);
  });
}

}  // namespace spillway::train
