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

/// An export replaces its directory as a whole, so that has to be new, empty, or an earlier export: config.json, no folders, and weights
/// whose metadata says that Spillway wrote them. \throws ConfigError naming it if it is anything else
void check_export_directory(const std::string& directory);

/// Writes a Hugging Face directory in slices. create() and commit() are one rank's, write() any rank's, in this order with a barrier
/// between. Until commit the files lie in DIRECTORY.spillway-new.
class HuggingFaceWriter {
 public:
  HuggingFaceWriter(std::string directory, const ModelSource& source, const model::T5Layout& layout);

  /// Makes the folder, the small files and an empty model.safetensors of full size.
  /// \throws ConfigError as check_export_directory; IoError
  void create() const;
  /// Elements from `begin` of a tensor, flat.
  void write(const std::string& tensor, std::int64_t begin, std::span<const float> values) const;
  /// Gives the folder its name once all of it is on the disk; an earlier export is there until that instant. \throws IoError
  void commit() const;

 private:
  [[nodiscard]] std::string folder() const;  // until commit
  [[nodiscard]] std::string weights_path() const;

  std::string directory_;  // absolute, without links and without a slash at the end
  const ModelSource& source_;
  checkpoint::SafetensorsWriter weights_;
};

}  // namespace spillway::train
