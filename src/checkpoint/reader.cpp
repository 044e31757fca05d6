// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/reader.hpp"

#include <algorithm>
#include <unordered_set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "checkpoint/damage.hpp"
#include "checkpoint/files.hpp"
#include "checkpoint/hash.hpp"
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
    : folder_(step_folder), staging_bytes_(staging_bytes), manifest_(read_manifest(step_folder)) {
  for (const std::vector<TensorSpec>& layout : manifest_.layouts) {
    Table table{ShardMap(layout, manifest_.world_size), {}};
    const std::vector<TensorSpec>& tensors = table.map.tensors();
    for (std::size_t i = 0; i < tensors.size(); ++i) table.by_name.emplace(tensors[i].name, i);
    tables_.push_back(std::move(table));
  }
  for (const KindEntry& kind : manifest_.kinds) kinds_.push_back({kind.name, &tables_[kind.layout].map});
  check_metadata(folder_, manifest_.files.back());
  metadata_ = read_tensor_file_metadata(folder_);
}

const ShardMap& CheckpointReader::layout(const std::string& kind) const { return table(kind).map; }

std::vector<std::string> CheckpointReader::verify(BulkStorage& bulk) {
  std::vector<std::string> problems;
  for (std::size_t i = 0; i < manifest_.files.size(); ++i) {
    const FileRecord& record = manifest_.files[i];
    const int piece = static_cast<int>(i);  // of the rank files, which come first
    try {
      check_metadata(folder_, record);
      if (record.name == kTensorFile) continue;
      const std::vector<StoredDataset> datasets = read_datasets(folder_, record, kinds_);
      BlockReader blocks(bulk, staging_bytes_);
      for (const StoredDataset& dataset : datasets)
        for (const DamagedBlock& damage : blocks.check(dataset))
          problems.push_back(damage.what() + tensors_in(dataset, piece, damage.block()));
    } catch (const DataError& error) {
      problems.emplace_back(error.what());
    }
  }
  return problems;
}

void CheckpointReader::read_shard(int piece, BulkStorage& bulk, StateSink& sink) {
  const std::vector<StateKind> wanted = sink.kinds();
  for (const StateKind& kind : wanted) require_same_tensors(kind);
  BlockReader blocks(bulk, staging_bytes_);
  const Staging window(staging_bytes_);
  const auto window_elements = static_cast<std::int64_t>(window.floats().size());
  for (const auto& [kind, mine] : wanted) {
    for (int unit = 0; unit < mine->units(); ++unit) {
      const Range shard = mine->shard(unit, piece);
      for (std::int64_t begin = 0; begin < shard.size(); begin += window_elements) {
        const Range part{begin, std::min(begin + window_elements, shard.size())};
        const auto values = window.floats().first(static_cast<std::size_t>(part.size()));
        std::ranges::fill(values, 0.0F);
        for (const TensorPiece& found : mine->pieces(unit, {shard.begin + part.begin, shard.begin + part.end}))
          read_elements(
              blocks, kind, mine->tensors()[static_cast<std::size_t>(found.tensor)].name, found.tensor_begin,
              values.subspan(static_cast<std::size_t>(found.range_begin), static_cast<std::size_t>(found.count)));
        sink.write(kind, unit, part, values);
      }
    }
  }
}

void CheckpointReader::read_tensor(const std::string& kind, const std::string& name, Range range, BulkStorage& bulk,
                                   std::span<float> to) {
  const std::int64_t elements = tensor(kind, name).shape.elements();
  if (range.begin < 0 || range.end > elements || range.size() != static_cast<std::int64_t>(to.size()))
    throw Error(fmt::format("tensor {}: elements {} to {} of {} asked into {}", name, range.begin, range.end, elements,
                            to.size()));
  BlockReader blocks(bulk, staging_bytes_);
  read_elements(blocks, kind, name, range.begin, to);
}

const CheckpointReader::Table& CheckpointReader::table(const std::string& kind) const {
  const auto found = std::ranges::find(manifest_.kinds, kind, &KindEntry::name);
  if (found != manifest_.kinds.end()) return tables_[found->layout];
  std::vector<std::string> names;
  for (const KindEntry& entry : manifest_.kinds) names.push_back(entry.name);
  throw DataError(fmt::format("{} holds {}, not {}", folder_, fmt::join(names, ", "), kind));
}

const TensorSpec& CheckpointReader::tensor(const std::string& kind, const std::string& name) const {
  const Table& stored = table(kind);
  const auto found = stored.by_name.find(name);
  if (found == stored.by_name.end()) throw DataError(fmt::format("{}: {} has no tensor {}", folder_, kind, name));
  return stored.map.tensors()[found->second];
}

const StoredDataset& CheckpointReader::dataset(const std::string& kind, int unit, int piece) {
  auto found = datasets_by_piece_.find(piece);
  if (found == datasets_by_piece_.end()) {
    const FileRecord& record = manifest_.files.at(static_cast<std::size_t>(piece));
    check_metadata(folder_, record);
    found = datasets_by_piece_.emplace(piece, read_datasets(folder_, record, kinds_)).first;
  }
  const auto entry = std::ranges::find_if(
      found->second, [&](const StoredDataset& stored) { return stored.unit == unit && stored.kind == kind; });
  return *entry;
}

void CheckpointReader::require_same_tensors(const StateKind& mine) const {
  const Table& stored = table(mine.name);
  const auto refuse = [&](const std::string& tensor, const std::string& expected, const std::string& found) {
    throw DataError(
        fmt::format("{}, {}: tensor {}: expected {}, found {}", folder_, mine.name, tensor, expected, found));
  };
  std::unordered_set<std::string> wanted_names;
  for (const TensorSpec& wanted : mine.layout->tensors()) {
    const auto found = stored.by_name.find(wanted.name);
    if (found == stored.by_name.end()) refuse(wanted.name, wanted.shape.text(), "no such tensor");
    const Shape& shape = stored.map.tensors()[found->second].shape;
    if (shape != wanted.shape) refuse(wanted.name, wanted.shape.text(), shape.text());
    wanted_names.insert(wanted.name);
  }
  for (const TensorSpec& other : stored.map.tensors())
    if (!wanted_names.contains(other.name)) refuse(other.name, "no such tensor", other.shape.text());
}

void CheckpointReader::read_elements(BlockReader& blocks, const std::string& kind, const std::string& name,
                                     std::int64_t begin, std::span<float> to) {
  const TensorSpec& stored = tensor(kind, name);
  const std::int64_t shard_elements = layout(kind).shard_elements(stored.unit);
  std::int64_t position = stored.offset + begin;  // in the writer's flat unit
  while (!to.empty()) {
    const int piece = static_cast<int>(position / shard_elements);
    const std::int64_t inside = position - piece * shard_elements;
    const auto count =
        static_cast<std::size_t>(std::min<std::int64_t>(static_cast<std::int64_t>(to.size()), shard_elements - inside));
    const StoredDataset& from = dataset(kind, stored.unit, piece);
    try {
      blocks.read(from, inside, to.first(count));
    } catch (const DamagedBlock& damage) {
      throw Damage(damage.what() + tensors_in(from, piece, damage.block()));
    }
    to = to.subspan(count);
    position += static_cast<std::int64_t>(count);
  }
}

/// "; it holds " and whose bytes lie in a block.
std::string CheckpointReader::tensors_in(const StoredDataset& dataset, int piece, std::size_t block) const {
  constexpr std::size_t kMost = 4;  // that are named
  const ShardMap& map = layout(dataset.kind);
  const Range shard = map.shard(dataset.unit, piece);
  const std::int64_t begin = shard.begin + static_cast<std::int64_t>(block * kHashBlock / sizeof(float));
  const std::int64_t end = begin + static_cast<std::int64_t>(dataset.block_bytes(block) / sizeof(float));
  std::vector<std::string> names;
  if (begin < shard.end)
    for (const TensorPiece& found : map.pieces(dataset.unit, {begin, std::min(end, shard.end)}))
      names.push_back(map.tensors()[static_cast<std::size_t>(found.tensor)].name);
  if (names.empty()) return "; it holds nothing but padding";
  const std::size_t more = names.size() - std::min(names.size(), kMost);
  names.resize(names.size() - more);
  return fmt::format("; it holds {}{}", fmt::join(names, ", "), more > 0 ? fmt::format(" and {} more", more) : "");
}

}  // namespace spillway::checkpoint
