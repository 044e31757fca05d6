// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "offload/block_store.hpp"
#include "offload/scratch_file.hpp"

namespace spillway::offload {

struct ExtentStoreOptions {
  std::vector<std::string> directories;  // one per drive; extent e lies in directory e modulo their number
  std::string folder;                    // made in each directory, removed at the end: one name per job and rank
  std::vector<std::string> kinds;        // what is kept of an extent: "exp_avg", "exp_avg_sq", ...
  bool checksum = true;                  // every extent read back is checked
};

/// The state of a fixed list of extents on NVMe: of each extent the bytes of each kind, in one file per directory.
/// The files live as long as this object and are worth nothing afterwards. A kind of an extent that was never written
/// reads as zeros. Safe from several threads as long as no extent is written while another thread reads or writes it.
class ExtentStore {
 public:
  /// Makes the folders and files (mode 0600, must not exist) and reserves their space. Removes all of it on failure.
  /// \param store   outlives this object
  /// \param extents the bytes of each kind of each extent: extents[extent][kind]; 0 for a kind that lives elsewhere
  /// \throws ConfigError naming the directory if it is missing, not writable or a tmpfs (unless the store is in memory)
  /// \throws IoError naming file and bytes if their space cannot be reserved
  ExtentStore(BlockStore& store, ExtentStoreOptions options, std::vector<std::vector<std::size_t>> extents);
  ExtentStore(const ExtentStore&) = delete;
  ExtentStore& operator=(const ExtentStore&) = delete;

  /// Starts to read a kind of an extent. wait() checks what came.
  /// \throws IoError (wait) naming extent, kind, file and offset; for other bytes than were written also the checksum
  ///         expected and the one found
  /// \param buffer stored_bytes() long, on the store's alignment; lives until the completion, as this object does
  [[nodiscard]] Completion read(std::size_t extent, std::size_t kind, std::span<std::byte> buffer);
  /// Starts to write. `buffer` (as for read) must neither change nor go until the completion.
  /// \throws IoError (wait) naming extent, kind, file and offset
  [[nodiscard]] Completion write(std::size_t extent, std::size_t kind, std::span<const std::byte> buffer);

  [[nodiscard]] std::size_t extents() const noexcept { return places_.size(); }
  [[nodiscard]] std::size_t kinds() const noexcept { return options_.kinds.size(); }
  [[nodiscard]] std::size_t alignment() const { return store_.alignment(); }
  /// Bytes that mean something.
  [[nodiscard]] std::size_t bytes(std::size_t extent, std::size_t kind) const { return place(extent, kind).bytes; }
  /// Bytes moved: bytes() rounded up to the store's alignment.
  [[nodiscard]] std::size_t stored_bytes(std::size_t extent, std::size_t kind) const;
  /// The paths of the files, one a directory.
  [[nodiscard]] std::vector<std::string> paths() const;

 private:
  class NamedTransfer;
  struct Place {
    std::size_t bytes = 0;
    std::uint64_t offset_bytes = 0;
    std::uint64_t checksum = 0;
    bool written = false;
  };

  void make_files(const std::vector<std::uint64_t>& file_bytes);
  [[nodiscard]] const Place& place(std::size_t extent, std::size_t kind) const { return places_.at(extent).at(kind); }
  [[nodiscard]] const ScratchFile& file(std::size_t extent) const { return files_[extent % files_.size()]; }
  void check_buffer(std::size_t extent, std::size_t kind, std::size_t buffer_bytes) const;
  void check_content(std::size_t extent, std::size_t kind, std::span<const std::byte> content) const;
  [[nodiscard]] std::string describe(std::size_t extent, std::size_t kind) const;

  BlockStore& store_;
  const ExtentStoreOptions options_;
  std::vector<std::vector<Place>> places_;
  std::vector<ScratchFolder> folders_;  // before the files: they go first
  std::vector<ScratchFile> files_;
};

}  // namespace spillway::offload
