// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace spillway::checkpoint {

/// A tensor as a file of weights describes it.
struct StoredTensor {
  std::string name;
  std::string dtype;  // safetensors' names: "F32", "BF16", ...
  std::vector<std::int64_t> shape;
  [[nodiscard]] std::int64_t elements() const noexcept;
};

/// A model's weights on disk, of whatever format: only descriptions are in memory, values are read slice by slice. Reading is
/// safe from several threads.
class WeightReader {
 public:
  virtual ~WeightReader() = default;
  /// The file for messages.
  [[nodiscard]] virtual const std::string& path() const noexcept = 0;
  /// In the order of the file's data.
  [[nodiscard]] const std::vector<StoredTensor>& tensors() const noexcept { return tensors_; }
  /// Elements [begin, begin + to.size()) of a tensor in F64, F32, F16 or BF16, flat in row-major order, as fp32. Blocks.
  /// \throws DataError if there is no such tensor, its dtype is another or the range is outside it; IoError
  virtual void read(std::string_view name, std::int64_t begin, std::span<float> to) const = 0;
  /// Whether two tensors are the same bytes of the file: pytorch_model.bin keeps tied tensors so.
  [[nodiscard]] virtual bool same_storage(std::string_view a, std::string_view b) const = 0;

  /// Null if there is no such tensor.
  [[nodiscard]] const StoredTensor* find(std::string_view name) const noexcept;

 protected:
  /// A tensor that the file has; its name is new.
  void add(StoredTensor tensor);
  /// Its place in tensors(). \throws DataError if there is no such tensor
  [[nodiscard]] std::size_t index_of(std::string_view name) const;

 private:
  std::vector<StoredTensor> tensors_;
  std::map<std::string, std::size_t, std::less<>> places_by_name_;
};

/// Opens *.safetensors, *.bin, or the *.index.json of either's shards, by the ending of its name.
/// \throws DataError naming file and tensor for whatever is malformed; IoError
[[nodiscard]] std::unique_ptr<WeightReader> open_weights(const std::string& path);

/// The file of a Hugging Face directory that transformers would read: model.safetensors, its index, pytorch_model.bin, its index.
/// Empty if there is none.
[[nodiscard]] std::string find_weights(const std::string& directory);

}  // namespace spillway::checkpoint
