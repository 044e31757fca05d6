// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/dtype.hpp"
#include "data/tokenizer.hpp"
#include "model/t5_config.hpp"
#include "train/run_options.hpp"

namespace spillway::train {

/// A model as the user names it: a Hugging Face directory, or a preset.
struct ModelSource {
  model::T5Config config;
  std::string directory;        // empty for a preset
  std::string weights;          // path of model.safetensors; empty: random initialisation
  std::string tokenizer;        // path of a SentencePiece model, or "bytes"; empty: none was found
  DType dtype = DType::f32;     // of the weights read: what the export has too
  std::string generation_json;  // text of generation_config.json; empty if there is none
};

/// Finds out what `options` means and reads config.json and the header of the weights.
/// \throws ConfigError, DataError naming the file that is missing, and for tensors that contradict config.json
[[nodiscard]] ModelSource open_model(const ModelOptions& options);

/// \throws ConfigError if the model has no tokenizer and none was named; DataError
[[nodiscard]] std::unique_ptr<data::Tokenizer> open_tokenizer(const ModelSource& source);

}  // namespace spillway::train
