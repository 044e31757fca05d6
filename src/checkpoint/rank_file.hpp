// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/manifest.hpp"
#include "checkpoint/ports.hpp"

namespace spillway::checkpoint {

/// A bulk dataset of a rank file and where its bytes lie.
struct StoredDataset {
  std::string path;  // of the file
  std::string name;  // "/master/unit-000"
  std::string kind;
  int unit = 0;
  std::uint64_t offset = 0;           // of the first byte, in the file
  std::uint64_t bytes = 0;            // a multiple of kAlignment
  std::vector<std::uint64_t> hashes;  // one for each kHashBlock

  [[nodiscard]] std::uint64_t block_bytes(std::size_t block) const;
};

/// Writes the file of one piece of every unit: HDF5 lays it out, the pieces go through `bulk` and are hashed on the way, the hashes come
/// last.
/// \param folder   must exist; an older file of the same name is replaced
/// \param staging  the bytes in transit: at least kHashBlock, on a kAlignment boundary
/// \return the file's entry for the manifest; the file is durable
/// \throws IoError with file and offset
[[nodiscard]] FileRecord write_rank_file(const std::string& folder, std::int64_t step, int piece, StateSource& source,
                                         BulkStorage& bulk, std::span<float> staging);

/// Hashes of a closed file that has no bulk datasets, for its manifest entry. \throws IoError
[[nodiscard]] FileRecord record_of_metadata_file(const std::string& folder, const std::string& name);

/// The size of a file, and every byte of it that belongs to no bulk dataset, against its entry.
/// \throws Damage with the file and the range of bytes, expected and found
void check_metadata(const std::string& folder, const FileRecord& record);

/// Finds the bulk datasets of a rank file, which must have passed check_metadata, and checks that they and the metadata
/// regions cover the file exactly and give the file's hash.
/// \return in file order
/// \throws Damage naming the file
[[nodiscard]] std::vector<StoredDataset> read_datasets(const std::string& folder, const FileRecord& record,
                                                       const std::vector<StateKind>& kinds);

}  // namespace spillway::checkpoint
