// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/files.hpp"

namespace spillway::checkpoint {

/// A tensor of a safetensors file, as its header says.
struct SafetensorsEntry {
  std::string name;
  std::string dtype;  // "F32", "BF16", ...
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0;  // bytes from the start of the file
  std::uint64_t end = 0;
  [[nodiscard]] std::int64_t elements() const noexcept;
};

/// The largest header that is read, in bytes: the limit of the safetensors library.
inline constexpr std::uint64_t kMaxSafetensorsHeader = 100'000'000;

/// A safetensors file opened for reading: only the header is in memory. The header is not trusted: length, JSON,
/// duplicate names, offsets (in range, no overlap, no holes), products of extents and sizes are all checked before
/// anything is read. Reading is safe from several threads.
class SafetensorsFile {
 public:
  /// \throws DataError naming the file and the tensor, also if it cannot be opened; IoError if reading fails
  explicit SafetensorsFile(const std::string& path);

  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  /// In the order of the file's data.
  [[nodiscard]] const std::vector<SafetensorsEntry>& tensors() const noexcept { return tensors_; }
  /// The header's "__metadata__".
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const noexcept { return metadata_; }
  /// Null if there is no such tensor.
  [[nodiscard]] const SafetensorsEntry* find(const std::string& name) const noexcept;

  /// Elements [begin, begin + to.size()) of a tensor in F32, F16 or BF16, flat, as fp32. Blocks.
  /// \throws DataError if there is no such tensor, its dtype is another or the range is outside it; IoError
  void read(const std::string& name, std::int64_t begin, std::span<float> to) const;

 private:
  void parse_header(const std::string& text, std::uint64_t data_begin, std::uint64_t file_bytes);

  std::string path_;
  FileDescriptor file_;
  std::vector<SafetensorsEntry> tensors_;
  std::map<std::string, std::size_t> by_name_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace spillway::checkpoint
