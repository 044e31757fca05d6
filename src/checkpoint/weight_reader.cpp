// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/weight_reader.hpp"

#include <algorithm>
#include <filesystem>

#include "checkpoint/safetensors_file.hpp"
#include "checkpoint/sharded_weights.hpp"
#include "checkpoint/torch_file.hpp"

namespace spillway::checkpoint {

std::int64_t StoredTensor::elements() const noexcept {
  std::int64_t product = 1;
  for (const std::int64_t extent : shape) product *= extent;
  return product;
}

const StoredTensor* WeightReader::find(std::string_view name) const noexcept {
  const auto found = std::ranges::find(tensors(), name, &StoredTensor::name);
  return found == tensors().end() ? nullptr : &*found;
}

std::unique_ptr<WeightReader> open_weights(const std::string& path) {
  if (path.ends_with(".index.json")) return std::make_unique<ShardedWeights>(path);
  if (path.ends_with(".bin")) return std::make_unique<TorchFile>(path);
  return std::make_unique<SafetensorsFile>(path);
}

std::string find_weights(const std::string& directory) {
  for (const char* name :
       {"model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"}) {
    const std::filesystem::path path = std::filesystem::path(directory) / name;
    if (std::filesystem::exists(path)) return path.string();
  }
  return {};
}

}  // namespace spillway::checkpoint
