// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/files.hpp"

#include <cerrno>
#include <system_error>

#include <fcntl.h>
#include <fmt/format.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "core/error.hpp"
#include "core/log.hpp"

namespace spillway::checkpoint {

void FileDescriptorTraits::destroy(Handle file) noexcept {
  if (::close(file) != 0) log::error(fmt::format("closing file descriptor {} failed, errno {}", file, errno));
}

FileDescriptor open_file(const std::string& path, int flags) {
  for (;;) {
    const int file = ::open(path.c_str(), flags | O_CLOEXEC, 0666);
    if (file >= 0) return FileDescriptor(file);
    if (errno != EINTR) throw IoError(fmt::format("{}: opening failed", path), errno);
  }
}

void read_fully(const FileDescriptor& file, const std::string& path, std::uint64_t offset_bytes,
                std::span<std::byte> bytes) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t count =
        ::pread(file.get(), bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset_bytes + done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0)
      throw IoError(fmt::format("{}: reading {} bytes at {} failed", path, bytes.size(), offset_bytes), errno);
    if (count == 0)
      throw IoError(fmt::format("{}: the file ends at byte {}, expected {} bytes at {}", path, offset_bytes + done,
                                bytes.size(), offset_bytes));
    done += static_cast<std::size_t>(count);
  }
}

void write_fully(const FileDescriptor& file, const std::string& path, std::uint64_t offset_bytes,
                 std::span<const std::byte> bytes) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t count =
        ::pwrite(file.get(), bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset_bytes + done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0)
      throw IoError(fmt::format("{}: writing {} bytes at {} failed", path, bytes.size(), offset_bytes), errno);
    done += static_cast<std::size_t>(count);
  }
}

void reserve_file(const FileDescriptor& file, const std::string& path, std::uint64_t bytes) {
  // Not posix_fallocate: where reserving is not supported (NFS) that writes into every block instead.
  int result = 0;
  do {
    result = ::fallocate(file.get(), 0, 0, static_cast<off_t>(bytes));
  } while (result != 0 && errno == EINTR);
  if (result != 0 && (errno == EOPNOTSUPP || errno == ENOSYS))
    result = ::ftruncate(file.get(), static_cast<off_t>(bytes));
  if (result != 0) throw IoError(fmt::format("{}: reserving {} bytes failed", path, bytes), errno);
}

FileDescriptor open_input(const std::string& path) {
  try {
    return open_file(path, O_RDONLY);
  } catch (const IoError& error) {
    throw DataError(error.what());
  }
}

std::filesystem::file_type type_of_input(const std::string& path) {
  std::error_code code;
  const auto type = std::filesystem::status(path, code).type();
  if (type == std::filesystem::file_type::none)
    throw DataError(fmt::format("{}: cannot be read: {}", path, code.message()));
  return type;
}

std::uint64_t size_of_file(const std::string& path) {
  struct stat facts {};
  if (::stat(path.c_str(), &facts) != 0) throw IoError(fmt::format("{}: cannot be read", path), errno);
  return static_cast<std::uint64_t>(facts.st_size);
}

std::optional<std::uint64_t> free_bytes(const std::string& path) {
  struct statvfs facts {};
  // Some file systems give zeros for "unknown".
  if (::statvfs(path.c_str(), &facts) != 0 || facts.f_blocks == 0) return std::nullopt;
  const std::uint64_t blocks = ::geteuid() == 0 ? facts.f_bfree : facts.f_bavail;  // some are root's alone
  return blocks * facts.f_frsize;
}

std::string read_text(const std::string& path) {
  std::string text(size_of_file(path), '\0');
  read_fully(open_file(path, O_RDONLY), path, 0, std::as_writable_bytes(std::span(text)));
  return text;
}

void sync_path(const std::string& path) {
  const FileDescriptor file = open_file(path, O_RDONLY);
  if (::fsync(file.get()) != 0) throw IoError(fmt::format("{}: fsync failed", path), errno);
}

void write_text_durably(const std::string& path, const std::string& text) {
  const std::string temporary = path + ".tmp";
  try {
    {
      const FileDescriptor file = open_file(temporary, O_WRONLY | O_CREAT | O_TRUNC);
      write_fully(file, temporary, 0, std::as_bytes(std::span(text)));
      if (::fsync(file.get()) != 0) throw IoError(fmt::format("{}: fsync failed", temporary), errno);
    }
    rename_path(temporary, path);
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
  sync_path(folder_of(path));
}

void rename_path(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) throw IoError(fmt::format("renaming {} to {} failed", from, to), errno);
}

bool exchange_paths(const std::string& one, const std::string& other) {
  if (::renameat2(AT_FDCWD, one.c_str(), AT_FDCWD, other.c_str(), RENAME_EXCHANGE) == 0) return true;
  if (errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP) return false;
  throw IoError(fmt::format("exchanging {} and {} failed", one, other), errno);
}

void put_in_place(const std::string& made, const std::string& path, const std::string& replaced) {
  std::error_code code;
  if (std::filesystem::status(path, code).type() == std::filesystem::file_type::not_found) {
    rename_path(made, path);
  } else if (!exchange_paths(made, path)) {
    remove_path(replaced);
    rename_path(path, replaced);
    rename_path(made, path);
  }
}

void remove_path(const std::string& path) {
  std::error_code code;
  std::filesystem::remove_all(path, code);
  if (code) throw IoError(fmt::format("{}: removing failed", path), code.value());
}

std::string folder_of(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}

}  // namespace spillway::checkpoint
