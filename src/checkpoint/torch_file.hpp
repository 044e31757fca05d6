// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "checkpoint/files.hpp"
#include "checkpoint/weight_reader.hpp"

namespace spillway::checkpoint {

/// A state dict that torch.save wrote (pytorch_model.bin): a zip archive (torch 1.6 on) or the older stream of pickles. The pickle
/// is taken apart by parse_pickle, which executes nothing; storages must lie inside the file and tensors inside their storages.
/// Tensors are contiguous, or matrices that were transposed.
class TorchFile final : public WeightReader {
 public:
  /// \throws DataError naming the file, and the tensor or what else is refused; IoError
  explicit TorchFile(const std::string& path);

  [[nodiscard]] const std::string& path() const noexcept override { return path_; }
  void read(std::string_view name, std::int64_t begin, std::span<float> to) const override;
  [[nodiscard]] bool same_storage(std::string_view a, std::string_view b) const override;

 private:
  /// Where a tensor's values lie; parallel to tensors().
  struct Place {
    std::uint64_t offset = 0;      // of its first value, bytes from the start of the file
    std::int64_t column_step = 0;  // of a transposed matrix: elements from one column to the next; 0: row-major
    bool operator==(const Place&) const = default;
  };
  void read_transposed(const StoredTensor& tensor, const Place& place, std::int64_t begin, std::span<float> to) const;

  std::string path_;
  FileDescriptor file_;
  std::vector<Place> places_;
};

}  // namespace spillway::checkpoint
