// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "checkpoint/weight_reader.hpp"

namespace spillway::checkpoint {

/// Weights in several files, with the index that Hugging Face writes beside them: {"weight_map": {tensor: file}}. The files lie in the
/// index's folder; all of their tensors count, and every tensor of the index must be where it says.
class ShardedWeights final : public WeightReader {
 public:
  /// \param index  path of model.safetensors.index.json or pytorch_model.bin.index.json
  /// \throws DataError naming the file and the tensor; IoError
  explicit ShardedWeights(const std::string& index);

  [[nodiscard]] const std::string& path() const noexcept override { return path_; }
  void read(std::string_view name, std::int64_t begin, std::span<float> to) const override;
  [[nodiscard]] bool same_storage(std::string_view a, std::string_view b) const override;

 private:
  [[nodiscard]] const WeightReader& shard_of(std::string_view name) const;

  std::string path_;
  std::vector<std::unique_ptr<WeightReader>> shards_;
  std::vector<std::size_t> shard_;  // of each tensor
};

}  // namespace spillway::checkpoint
