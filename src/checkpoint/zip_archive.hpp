// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "checkpoint/files.hpp"

namespace spillway::checkpoint {

/// An entry's bytes, which are in the archive as they are.
struct ZipEntry {
  std::uint64_t offset = 0;  // bytes from the start of the file
  std::uint64_t bytes = 0;
};

/// The largest directory of an archive that is read, in bytes.
inline constexpr std::uint64_t kMaxZipDirectory = std::uint64_t{16} << 20;

/// Finds the entries of a zip archive without compression (APPNOTE.TXT 6.3, zip64 included), as torch.save writes them. Nothing is
/// believed: entries are refused if they are compressed or encrypted, if two sizes of one differ, or if two overlap or lie outside the file.
/// \param path  for messages  \throws DataError naming the entry; IoError
[[nodiscard]] std::map<std::string, ZipEntry> read_zip_directory(const FileDescriptor& file, const std::string& path);

}  // namespace spillway::checkpoint
