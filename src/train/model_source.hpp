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
  std::string weights;          // for checkpoint::open_weights; empty: random initialisation
  std::string tokenizer;        // path of a SentencePiece model, or "bytes"; empty: none was found
  DType dtype = DType::f32;     // of the weights read, until export_dtype() decides: of the export
  std::string generation_json;  // text of generation_config.json; empty if there is none
};

/// Finds out what `options` means and reads config.json and the header of the weights.
/// \throws ConfigError, DataError naming the file that is missing, and for tensors that contradict config.json
[[nodiscard]] ModelSource open_model(const ModelOptions& options);

/// \throws ConfigError if the model has no tokenizer and none was named; DataError
[[nodiscard]] std::unique_ptr<data::Tokenizer> open_tokenizer(const ModelSource& source);

/// checkpoint.export_dtype as a type; "auto" is the type of the model that was read.
[[nodiscard]] DType export_dtype(ExportDType asked, DType of_model);

}  // namespace spillway::train
