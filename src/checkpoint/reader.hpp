// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "checkpoint/block_reader.hpp"
#include "checkpoint/manifest.hpp"
#include "checkpoint/ports.hpp"
#include "checkpoint/rank_file.hpp"
#include "core/shard_map.hpp"

namespace spillway::checkpoint {

/// A committed checkpoint. Every byte that it gives out has been checked against its hash. Files are opened when they
/// are needed. One thread at a time.
class CheckpointReader {
 public:
  /// \param staging_bytes  each of the two buffers of a read, allocated for it
  /// \throws DataError naming the file if the manifest is missing or damaged, Damage if checkpoint.h5 is
  explicit CheckpointReader(const std::string& step_folder, std::size_t staging_bytes = std::size_t{4} << 20);
  CheckpointReader(const CheckpointReader&) = delete;
  CheckpointReader& operator=(const CheckpointReader&) = delete;

  /// The JSON text that was given to the writer.
  [[nodiscard]] const std::string& metadata() const noexcept { return metadata_; }
  [[nodiscard]] std::int64_t step() const noexcept { return manifest_.step; }
  [[nodiscard]] int world_size() const noexcept { return manifest_.world_size; }
  /// How the writer's ranks shared the tensors of each kind.
  [[nodiscard]] const std::vector<StateKind>& kinds() const noexcept { return kinds_; }
  /// The layout of a kind. \throws DataError if the kind is not there
  [[nodiscard]] const ShardMap& layout(const std::string& kind) const;
  /// The sizes and hashes of the files, in bytes.
  [[nodiscard]] const std::vector<FileRecord>& files() const noexcept { return manifest_.files; }

  /// Reads and checks every byte of every file. \return a line for each thing wrong, with file, MiB and tensors; empty
  /// if all is well
  /// \throws IoError if a file cannot be read
  [[nodiscard]] std::vector<std::string> verify(BulkStorage& bulk);

  /// Gives `sink` piece number `piece` of every unit of its kinds, each in the sink's layout of it: any that has the
  /// same tensors as the checkpoint has of that kind, at any number of ranks. Reads only the blocks needed.
  /// \throws DataError if a tensor is missing, unknown or of another shape, or if a kind is missing: before the sink
  ///          gets anything; Damage if a block is damaged, naming the tensors in it
  void read_shard(int piece, BulkStorage& bulk, StateSink& sink);

  /// Elements `range` of a tensor, flat, row-major. \throws DataError if kind or tensor is not there
  void read_tensor(const std::string& kind, const std::string& name, Range range, BulkStorage& bulk,
                   std::span<float> to);

 private:
  /// A layout of the writer and its tensors by name.
  struct Table {
    ShardMap map;
    std::unordered_map<std::string, std::size_t> by_name;
  };

  [[nodiscard]] const Table& table(const std::string& kind) const;
  [[nodiscard]] const StoredDataset& dataset(const std::string& kind, int unit, int piece);
  void require_same_tensors(const StateKind& mine) const;
  [[nodiscard]] const TensorSpec& tensor(const std::string& kind, const std::string& name) const;
  void read_elements(BlockReader& blocks, const std::string& kind, const std::string& name, std::int64_t begin,
                     std::span<float> to);
  [[nodiscard]] std::string tensors_in(const StoredDataset& dataset, int piece, std::size_t block) const;

  std::string folder_;
  std::size_t staging_bytes_;
  Manifest manifest_;
  std::vector<Table> tables_;     // of the manifest's layouts
  std::vector<StateKind> kinds_;  // into tables_
  std::string metadata_;
  std::map<int, std::vector<StoredDataset>> datasets_by_piece_;
};

}  // namespace spillway::checkpoint
