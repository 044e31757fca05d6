// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

#include <linux/magic.h>
#include <sys/vfs.h>

namespace spillway::test {

/// A folder that is gone with its owner. Below the working directory, which is on a disk where /tmp may be in memory.
class ScratchDirectory {
 public:
  ScratchDirectory() : path_((std::filesystem::current_path() / "scratch-XXXXXX").string()) {
    if (::mkdtemp(path_.data()) == nullptr) throw std::filesystem::filesystem_error("mkdtemp", path_, {});
  }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  ~ScratchDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] std::string file(const std::string& name) const { return path_ + "/" + name; }
  [[nodiscard]] std::string operator/(const std::string& name) const { return file(name); }
  /// Writes the bytes as they are. \return the file's path
  std::string write(const std::string& name, std::string_view bytes) const {
    std::ofstream stream(file(name), std::ios::binary);
    stream << bytes << std::flush;
    if (!stream) throw std::filesystem::filesystem_error("write", file(name), {});
    return file(name);
  }
  [[nodiscard]] bool in_memory() const {
    struct statfs status {};
    return ::statfs(path_.c_str(), &status) == 0 && status.f_type == TMPFS_MAGIC;
  }

 private:
  std::string path_;
};

/// Bytes on a 4 KiB boundary, as O_DIRECT wants them. Zeros for seed 0; else they differ by place and by seed.
class AlignedBytes {
 public:
  explicit AlignedBytes(std::size_t bytes, unsigned seed = 0)
      : memory_(static_cast<std::byte*>(std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096)), &std::free),
        bytes_(bytes) {
    unsigned state = seed * 2654435761u;
    for (auto& byte : span()) {
      if (seed != 0) state = state * 1664525u + 1013904223u;
      byte = static_cast<std::byte>(state >> 24);
    }
  }
  [[nodiscard]] std::span<std::byte> span() const { return {memory_.get(), bytes_}; }

 private:
  std::unique_ptr<std::byte[], decltype(&std::free)> memory_;
  std::size_t bytes_;
};

}  // namespace spillway::test
