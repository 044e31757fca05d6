// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/sharded_weights.hpp"

#include <filesystem>
#include <map>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "checkpoint/files.hpp"
#include "core/error.hpp"
#include "core/json_depth.hpp"

namespace spillway::checkpoint {
namespace {

constexpr std::uint64_t kMaxIndexBytes = std::uint64_t{64} << 20;

/// \return the file of every tensor
std::map<std::string, std::string> read_index(const std::string& path) {
  constexpr int kDeepest = 3;
  if (type_of_input(path) != std::filesystem::file_type::regular)
    throw DataError(fmt::format("{}: expected a file", path));
  if (const std::uint64_t bytes = size_of_file(path); bytes > kMaxIndexBytes)
    throw DataError(fmt::format("{}: an index of {} bytes, at most {} are allowed", path, bytes, kMaxIndexBytes));
  const std::string text = read_text(path);
  check_json_depth(text, path, kDeepest);
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object() || !json.contains("weight_map") || !json["weight_map"].is_object())
    throw DataError(fmt::format("{}: expected a JSON object with \"weight_map\"", path));
  std::map<std::string, std::string> files;
  for (const auto& [tensor, file] : json["weight_map"].items()) {
    const std::string name = file.is_string() ? file.get<std::string>() : std::string();
    if (!(name.ends_with(".safetensors") || name.ends_with(".bin")) || name.find('/') != std::string::npos)
      throw DataError(fmt::format("{}: tensor {}: expected the name of a .safetensors or .bin file beside it, found {}",
                                  path, tensor, file.is_string() ? name : std::string(file.type_name())));
    files.emplace(tensor, name);
  }
  if (files.empty()) throw DataError(fmt::format("{}: the weight_map is empty", path));
  return files;
}

}  // namespace

ShardedWeights::ShardedWeights(const std::string& index) : path_(index) {
  const std::map<std::string, std::string> files = read_index(index);
  std::map<std::string, std::size_t> shards;
  for (const auto& [tensor, file] : files) {
    const auto [place, added] = shards.emplace(file, shards_.size());
    if (!added) continue;
    const std::string path = (std::filesystem::path(index).parent_path() / file).string();
    if (type_of_input(path) == std::filesystem::file_type::not_found)
      throw DataError(fmt::format("{}: tensor {} is in {}, which is not there", index, tensor, path));
    shards_.push_back(open_weights(path));
    for (const StoredTensor& stored : shards_.back()->tensors()) {
      if (find(stored.name) != nullptr)
        throw DataError(
            fmt::format("{}: tensor {} is in {} and in {}", index, stored.name, shard_of(stored.name).path(), path));
      add(stored);
      shard_.push_back(place->second);
    }
  }
  for (const auto& [tensor, file] : files) {
    if (find(tensor) == nullptr || shard_[index_of(tensor)] != shards.at(file))
      throw DataError(fmt::format("{}: tensor {} is not in {}, where the index says", index, tensor, file));
  }
}

const WeightReader& ShardedWeights::shard_of(std::string_view name) const { return *shards_[shard_[index_of(name)]]; }

void ShardedWeights::read(std::string_view name, std::int64_t begin, std::span<float> to) const {
  shard_of(name).read(name, begin, to);
}

bool ShardedWeights::same_storage(std::string_view a, std::string_view b) const {
  const WeightReader& shard = shard_of(a);
  return &shard == &shard_of(b) && shard.same_storage(a, b);
}

}  // namespace spillway::checkpoint
