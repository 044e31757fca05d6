// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "core/dtype.hpp"

namespace spillway::checkpoint {

/// A tensor to write. dtype is f32, f16 or bf16.
struct SafetensorsSpec {
  std::string name;
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape;
};

/// Writes one safetensors file in slices, from any number of processes, with the safetensors library's layout: the
/// widest dtypes first, then by name, the header padded to 8 bytes, {"format": "pt"} as metadata besides what is asked for. The layout follows
/// from the list of tensors alone, so every process makes its own writer. The order of calls: `create` by one,
/// `write_slice` by all, `commit` by one; with a barrier between them. Until `commit` the bytes are in PATH.tmp.
class SafetensorsWriter {
 public:
  /// \throws Error for another dtype, a name twice, or a size that overflows
  explicit SafetensorsWriter(std::vector<SafetensorsSpec> tensors,
                             const std::map<std::string, std::string>& metadata = {});

  /// In bytes.
  [[nodiscard]] std::uint64_t file_bytes() const noexcept { return file_bytes_; }

  /// Makes PATH.tmp with the header and room for everything, so that a full disk shows here. \throws IoError
  void create(const std::string& path) const;
  /// Rounds `values` to the tensor's dtype and writes them at the flat element `begin`. \throws Error if they are not
  /// inside; IoError
  void write_slice(const std::string& path, const std::string& name, std::int64_t begin,
                   std::span<const float> values) const;
  /// Makes PATH.tmp durable and renames it to PATH. \throws IoError
  void commit(const std::string& path) const;

 private:
  struct Place {
    DType dtype;
    std::int64_t elements;
    std::uint64_t offset;  // bytes from the start of the file
  };
  std::string header_;  // with its length in front
  std::map<std::string, Place> places_;
  std::uint64_t file_bytes_ = 0;
};

}  // namespace spillway::checkpoint
