// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/weight_reader.hpp"

#include <filesystem>
#include <utility>

#include <fmt/format.h>

#include "checkpoint/files.hpp"
#include "checkpoint/safetensors_file.hpp"
#include "checkpoint/sharded_weights.hpp"
#include "checkpoint/torch_file.hpp"
#include "core/error.hpp"

namespace spillway::checkpoint {

std::int64_t StoredTensor::elements() const noexcept {
  std::int64_t product = 1;
  for (const std::int64_t extent : shape) product *= extent;
  return product;
}

const StoredTensor* WeightReader::find(std::string_view name) const noexcept {
  const auto found = places_by_name_.find(name);
  return found == places_by_name_.end() ? nullptr : &tensors_[found->second];
}

void WeightReader::add(StoredTensor tensor) {
  places_by_name_.emplace(tensor.name, tensors_.size());
  tensors_.push_back(std::move(tensor));
}

std::size_t WeightReader::index_of(std::string_view name) const {
  const auto found = places_by_name_.find(name);
  if (found == places_by_name_.end()) throw DataError(fmt::format("{}: there is no tensor {}", path(), name));
  return found->second;
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
    if (type_of_input(path.string()) != std::filesystem::file_type::not_found) return path.string();
  }
  return {};
}

}  // namespace spillway::checkpoint
