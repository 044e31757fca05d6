// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "checkpoint/safetensors_writer.hpp"
#include "model/t5_layout.hpp"
#include "train/agreement.hpp"
#include "train/model_source.hpp"

namespace spillway::train {

/// Writes a Hugging Face directory in slices. create() and commit() are one rank's, write() any rank's, in this order with a barrier
/// between. Until commit the files lie in DIRECTORY.tmp.
class HuggingFaceWriter {
 public:
  HuggingFaceWriter(std::string directory, const ModelSource& source, const model::T5Layout& layout);

  /// Makes the folder, the small files and an empty model.safetensors of full size. \throws IoError
  void create() const;
  /// Elements from `begin` of a tensor, flat.
  void write(const std::string& tensor, std::int64_t begin, std::span<const float> values) const;
  /// Gives the folder its name; one that was there before is replaced.
  void commit() const;

 private:
  [[nodiscard]] std::string weights_path() const;

  std::string directory_;
  const ModelSource& source_;
  checkpoint::SafetensorsWriter weights_;
};

}  // namespace spillway::train
