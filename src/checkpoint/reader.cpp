// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/reader.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "checkpoint/files.hpp"
#include "checkpoint/layout.hpp"
#include "checkpoint/tensor_file.hpp"
#include "core/error.hpp"

namespace spillway::checkpoint {
namespace {

Manifest read_manifest(const std::string& folder) {
  const std::string path = folder + "/" + std::string(kManifestFile);
  try {
    return parse_manifest(read_text(path), path);
  } catch (const IoError& error) {
    throw DataError(fmt::format("{} is no checkpoint: {}", folder, error.what()));
  }
}

}  // namespace

CheckpointReader::CheckpointReader(const std::string& step_folder, std::size_t staging_bytes)
    : folder_(step_folder),
      staging_bytes_(staging_bytes),
      manifest_(read_manifest(step_folder)),
      shards_(manifest_.shard_map()) {
  check_metadata(folder_, manifest_.files.back());
  metadata_ = read_tensor_file_metadata(folder_);
  for (std::size_t i = 0; i < shards_.tensors().size(); ++i) tensor_by_name_.emplace(shards_.tensors()[i].name, i);
}

std::vector<std::string> CheckpointReader::verify(BulkStorage& bulk) {
  std::vector<std::string> problems;
  for (const FileRecord& record : manifest_.files) {
    try {
      check_metadata(folder_, record);
      if (record.name == kTensorFile) continue;
      const std::vector<StoredDataset> datasets = read_datasets(folder_, record, manifest_.kinds, shards_);
      BlockReader blocks(bulk, staging_bytes_);
      for (const StoredDataset& dataset : datasets)
        std::ranges::move(blocks.check(dataset), std::back_inserter(problems));
    } catch (const DataError& error) {
      problems.emplace_back(error.what());
    }
  }
  return problems;
}

void CheckpointReader::read_shard(const ShardMap& mine, int rank, BulkStorage& bulk, StateSink& sink) {
  require_same_tensors(mine);
  for (const std::string& kind : sink.kinds()) require_kind(kind);
  BlockReader blocks(bulk, staging_bytes_);
  const Staging window(staging_bytes_);
  const auto window_elements = static_cast<std::int64_t>(window.floats().size());
  for (const std::string& kind : sink.kinds()) {
    for (int unit = 0; unit < mine.units(); ++unit) {
      const Range shard = mine.shard(unit, rank);
      for (std::int64_t begin = 0; begin < shard.size(); begin += window_elements) {
        const Range part{begin, std::min(begin + window_elements, shard.size())};
        const auto values = window.floats().first(static_cast<std::size_t>(part.size()));
        std::ranges::fill(values, 0.0F);
        for (const TensorPiece& piece : mine.pieces(unit, {shard.begin + part.begin, shard.begin + part.end}))
          read_elements(
              blocks, kind, tensor(mine.tensors()[static_cast<std::size_t>(piece.tensor)].name), piece.tensor_begin,
              values.subspan(static_cast<std::size_t>(piece.range_begin), static_cast<std::size_t>(piece.count)));
        sink.write(kind, unit, part, values);
      }
    }
  }
}

void CheckpointReader::read_tensor(const std::string& kind, const std::string& name, Range range, BulkStorage& bulk,
                                   std::span<float> to) {
  require_kind(kind);
  const TensorSpec& found = tensor(name);
  if (range.begin < 0 || range.end > found.shape.elements() || range.size() != static_cast<std::int64_t>(to.size()))
    throw Error(fmt::format("tensor {}: elements {} to {} of {} asked into {}", name, range.begin, range.end,
                            found.shape.elements(), to.size()));
  BlockReader blocks(bulk, staging_bytes_);
  read_elements(blocks, kind, found, range.begin, to);
}

const StoredDataset& CheckpointReader::dataset(const std::string& kind, int unit, int rank) {
  auto found = datasets_by_rank_.find(rank);
  if (found == datasets_by_rank_.end()) {
    const FileRecord& record = manifest_.files.at(static_cast<std::size_t>(rank));
    check_metadata(folder_, record);
    found = datasets_by_rank_.emplace(rank, read_datasets(folder_, record, manifest_.kinds, shards_)).first;
  }
  const auto entry = std::ranges::find_if(
      found->second, [&](const StoredDataset& stored) { return stored.unit == unit && stored.kind == kind; });
  return *entry;
}

void CheckpointReader::require_kind(const std::string& kind) const {
  if (std::ranges::find(manifest_.kinds, kind) == manifest_.kinds.end())
    throw DataError(fmt::format("{} holds {}, not {}", folder_, fmt::join(manifest_.kinds, ", "), kind));
}

void CheckpointReader::require_same_tensors(const ShardMap& mine) const {
  for (const TensorSpec& wanted : mine.tensors()) {
    const auto found = tensor_by_name_.find(wanted.name);
    if (found == tensor_by_name_.end())
      throw DataError(
          fmt::format("{}: tensor {}: expected {}, found no such tensor", folder_, wanted.name, wanted.shape.text()));
    const Shape& shape = shards_.tensors()[found->second].shape;
    if (shape != wanted.shape)
      throw DataError(
          fmt::format("{}: tensor {}: expected {}, found {}", folder_, wanted.name, wanted.shape.text(), shape.text()));
  }
  if (mine.tensors().size() == shards_.tensors().size()) return;
  for (const TensorSpec& stored : shards_.tensors())
    if (std::ranges::find(mine.tensors(), stored.name, &TensorSpec::name) == mine.tensors().end())
      throw DataError(fmt::format("{}: tensor {}: expected no such tensor in this model, found {}", folder_,
                                  stored.name, stored.shape.text()));
}

const TensorSpec& CheckpointReader::tensor(const std::string& name) const {
  const auto found = tensor_by_name_.find(name);
  if (found == tensor_by_name_.end()) throw DataError(fmt::format("{}: there is no tensor {}", folder_, name));
  return shards_.tensors()[found->second];
}

void CheckpointReader::read_elements(BlockReader& blocks, const std::string& kind, const TensorSpec& tensor,
                                     std::int64_t begin, std::span<float> to) {
  const std::int64_t shard_elements = shards_.shard_elements(tensor.unit);
  std::int64_t position = tensor.offset + begin;  // in the writer's flat unit
  while (!to.empty()) {
    const std::int64_t rank = position / shard_elements;
    const std::int64_t inside = position - rank * shard_elements;
    const auto count =
        static_cast<std::size_t>(std::min<std::int64_t>(static_cast<std::int64_t>(to.size()), shard_elements - inside));
    blocks.read(dataset(kind, tensor.unit, static_cast<int>(rank)), inside, to.first(count));
    to = to.subspan(count);
    position += static_cast<std::int64_t>(count);
  }
}

}  // namespace spillway::checkpoint
