// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
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

/// A kind of state and which tensor table it has.
struct KindEntry {
  std::string name;
  std::size_t layout = 0;  // index into Manifest::layouts
};

/// What manifest.json says: enough to check every file and to rebuild the ShardMaps that wrote them.
struct Manifest {
  std::int64_t step = 0;
  std::int64_t sequence =
      0;  // one more than any checkpoint that was in the root folder: the highest was committed last
  int world_size = 1;
  std::vector<KindEntry> kinds;
  std::vector<std::vector<TensorSpec>> layouts;  // each that differs once
  std::vector<FileRecord> files;                 // the rank files in order, then checkpoint.h5
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
