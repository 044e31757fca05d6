// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>

#include "core/unique_handle.hpp"

namespace spillway::checkpoint {

struct FileDescriptorTraits {
  using Handle = int;
  static Handle null() noexcept { return -1; }
  static void destroy(Handle file) noexcept;
};
using FileDescriptor = UniqueHandle<FileDescriptorTraits>;

/// open(2) with O_CLOEXEC; new files get mode 0666 less the umask. \throws IoError with the path
[[nodiscard]] FileDescriptor open_file(const std::string& path, int flags);
/// To read what a user named. \throws DataError with the path and the system's reason
[[nodiscard]] FileDescriptor open_input(const std::string& path);

/// Whole transfers; `path` is for messages. \throws IoError with path, offset and length, also at an early end of the
/// file
void read_fully(const FileDescriptor& file, const std::string& path, std::uint64_t offset_bytes,
                std::span<std::byte> bytes);
void write_fully(const FileDescriptor& file, const std::string& path, std::uint64_t offset_bytes,
                 std::span<const std::byte> bytes);

/// Makes a new file `bytes` long with room for all of it; where the file system cannot reserve, only the length is set.
/// \throws IoError
void reserve_file(const FileDescriptor& file, const std::string& path, std::uint64_t bytes);

/// What is at a path that the user gave; not_found if nothing is.
/// \throws DataError with the system's reason where that cannot be told, as below a folder that may not be searched
[[nodiscard]] std::filesystem::file_type type_of_input(const std::string& path);

/// \throws IoError
[[nodiscard]] std::uint64_t size_of_file(const std::string& path);
[[nodiscard]] std::string read_text(const std::string& path);

/// What this user may still write to the file system that holds a path; nothing where it does not say.
[[nodiscard]] std::optional<std::uint64_t> free_bytes(const std::string& path);

/// fsync of a file or a folder. \throws IoError
void sync_path(const std::string& path);

/// Replaces a file by `text` so that a kill or a full disk leaves the old or the new one: `path`.tmp, fsync, rename,
/// fsync of the folder. \throws IoError
void write_text_durably(const std::string& path, const std::string& text);

/// rename(2). \throws IoError
void rename_path(const std::string& from, const std::string& to);

/// Swaps two paths in one step. False where the file system cannot. \throws IoError
[[nodiscard]] bool exchange_paths(const std::string& one, const std::string& other);

/// Gives a complete `made` the name `path`. A folder that had it is `made` or `replaced` afterwards, for the caller to
/// remove; where the file system cannot exchange two folders there is an instant at which it is `replaced` and nothing
/// is `path`. \throws IoError
void put_in_place(const std::string& made, const std::string& path, const std::string& replaced);

/// A file or a folder with all that is in it; nothing if it is not there. \throws IoError
void remove_path(const std::string& path);

/// The folder that holds `path`: "." for a plain name.
[[nodiscard]] std::string folder_of(const std::string& path);

}  // namespace spillway::checkpoint
