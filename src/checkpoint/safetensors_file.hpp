// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/files.hpp"
#include "checkpoint/weight_reader.hpp"

namespace spillway::checkpoint {

/// The largest header that is read, in bytes: the limit of the safetensors library.
inline constexpr std::uint64_t kMaxSafetensorsHeader = 100'000'000;

/// A safetensors file opened for reading: only the header is in memory. The header is not trusted: length, JSON,
/// duplicate names, offsets (in range, no overlap, no holes), products of extents and sizes are all checked before
/// anything is read. Reading is safe from several threads.
class SafetensorsFile final : public WeightReader {
 public:
  /// \throws DataError naming the file and the tensor, also if it cannot be opened; IoError if reading fails
  explicit SafetensorsFile(const std::string& path);

  [[nodiscard]] const std::string& path() const noexcept override { return path_; }
  /// The header's "__metadata__".
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const noexcept { return metadata_; }
  void read(std::string_view name, std::int64_t begin, std::span<float> to) const override;
  /// Tensors do not overlap here.
  [[nodiscard]] bool same_storage(std::string_view a, std::string_view b) const override { return a == b; }

 private:
  void parse_header(const std::string& text, std::uint64_t data_begin, std::uint64_t file_bytes);

  std::string path_;
  FileDescriptor file_;
  std::vector<std::uint64_t> begins_;  // bytes from the start of the file; parallel to tensors()
  std::map<std::string, std::string> metadata_;
};

}  // namespace spillway::checkpoint
