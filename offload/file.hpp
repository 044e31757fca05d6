// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/unique_handle.hpp"
#include "offload/block_store.hpp"

namespace spillway::offload {

/// What a store made with `direct` asks of offsets, lengths and addresses; a disk that wants more is used buffered.
inline constexpr std::size_t kDirectAlignment = 4096;

struct DescriptorTraits {
  using Handle = int;
  static Handle null() noexcept { return -1; }
  static void destroy(Handle descriptor) noexcept;
};
using Descriptor = UniqueHandle<DescriptorTraits>;

/// An open file of the file system, read and written at offsets.
class File {
 public:
  /// Opens `path` and reserves `bytes` of it (0: nothing). A file that could be made but not reserved is removed again.
  /// \param direct  bypass the page cache where the file system allows that
  /// \throws IoError with the path, and the bytes if they could not be reserved
  File(std::string path, OpenMode mode, std::uint64_t bytes, bool direct);

  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] int descriptor() const noexcept { return descriptor_.get(); }
  /// Whether the page cache is bypassed.
  [[nodiscard]] bool direct() const noexcept { return alignment_ != 1; }
  /// What transfers of this file must be multiples of: kDirectAlignment, or 1 if the page cache is used.
  [[nodiscard]] std::size_t alignment() const noexcept { return alignment_; }
  /// Makes data and size durable. \throws IoError
  void sync();

 private:
  std::string path_;
  Descriptor descriptor_;
  std::size_t alignment_ = 1;
};

}  // namespace spillway::offload
