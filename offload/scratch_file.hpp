// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "offload/block_store.hpp"

namespace spillway::offload {

/// A folder that is made (mode 0700) and, empty again, removed; a mere name for a store that is not in the file system.
class ScratchFolder {
 public:
  /// \throws ConfigError naming `directory` if it is missing, no directory, in memory (tmpfs) or not writable, or if it
  ///         has a folder `name` already
  ScratchFolder(const BlockStore& store, const std::string& directory, const std::string& name);
  ScratchFolder(ScratchFolder&& other) noexcept;
  ScratchFolder& operator=(ScratchFolder&&) = delete;
  ~ScratchFolder();
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

 private:
  std::string path_;
  bool remove_;
};

/// A new file of a store that is closed and removed with its owner. The store must outlive it.
class ScratchFile {
 public:
  /// \throws IoError with path and bytes if it exists or its space cannot be reserved
  ScratchFile(BlockStore& store, std::string path, std::uint64_t bytes);
  ScratchFile(ScratchFile&& other) noexcept;
  ScratchFile& operator=(ScratchFile&&) = delete;
  ~ScratchFile();
  [[nodiscard]] FileId id() const noexcept { return id_; }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

 private:
  BlockStore* store_;
  std::string path_;
  FileId id_;
};

}  // namespace spillway::offload
