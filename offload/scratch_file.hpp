// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "offload/block_store.hpp"
#include "offload/file.hpp"

namespace spillway::offload {

/// A folder that is made (mode 0700) and, empty again, removed; a mere name for a store that is not in the file system.
/// Locked while its owner lives, which tells it from one that a killed run left behind.
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
  [[nodiscard]] bool make(const std::string& directory);

  std::string path_;
  Descriptor lock_;  // none: the file system has no locks
  bool remove_;
};

/// Removes what runs that were killed left in `directory`: the folders that begin with `prefix` and that nobody holds.
/// Leaves everything where folders cannot be locked. Other files in such a folder stay, and with them the folder.
/// \return the folders removed
std::vector<std::string> remove_abandoned_folders(const std::string& directory, const std::string& prefix);

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
