// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/shard_map.hpp"

namespace spillway::checkpoint {

/// At most kHashBlock bytes of a file that belong to no bulk dataset.
struct MetadataRegion {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  std::uint64_t hash = 0;
};

/// What the manifest knows of one file.
struct FileRecord {
  std::string name;  // inside the checkpoint's folder
  std::uint64_t bytes = 0;
  std::uint64_t hash = 0;  // over the hashes of all regions: layout.hpp
  std::vector<MetadataRegion> metadata;
};

/// What manifest.json says: enough to check every file and to rebuild the ShardMap that wrote them.
struct Manifest {
  std::int64_t step = 0;
  std::int64_t sequence =
      0;  // one more than any checkpoint that was in the root folder: the highest was committed last
  int world_size = 1;
  std::vector<std::string> kinds;
  std::vector<TensorSpec> tensors;
  std::vector<FileRecord> files;  // the rank files in order, then checkpoint.h5

  [[nodiscard]] ShardMap shard_map() const { return {tensors, world_size}; }
};

/// JSON with sorted keys, one space of indent, and the hash of the compact form without the field "hash".
[[nodiscard]] std::string manifest_text(const Manifest& manifest);

/// \param path  for messages
/// \throws DataError if the text is no manifest, is of a newer version, contradicts itself, or differs from what was
///          written
[[nodiscard]] Manifest parse_manifest(const std::string& text, const std::string& path);

/// One file's entry, for the exchange between ranks.
[[nodiscard]] std::string file_record_text(const FileRecord& record);
[[nodiscard]] FileRecord parse_file_record(const std::string& text);

}  // namespace spillway::checkpoint
