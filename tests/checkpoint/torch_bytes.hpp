// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace spillway::checkpoint::test {

/// A number's bytes, little-endian.
template <typename Number>
std::string bytes_of(Number number) {
  return {reinterpret_cast<const char*>(&number), sizeof(number)};
}

// Pieces of pickles, by opcode.
std::string pickle_text(std::string_view text);
std::string pickle_integer(std::int32_t value);
std::string pickle_global(std::string_view module, std::string_view name);
/// Items between a mark and 't'.
std::string pickle_tuple(const std::vector<std::string>& items);
/// Protocol 2, the body, a stop.
std::string pickle_of(std::string_view body);
/// An OrderedDict of pairs of a name and a pickled value.
std::string pickle_dict(const std::vector<std::pair<std::string, std::string>>& entries);

/// How a tensor is pickled; every field may lie.
struct TensorText {
  std::string type = "FloatStorage";
  std::string key = "0";
  std::int32_t storage_elements = 4;
  std::int32_t offset = 0;
  std::vector<std::int32_t> shape = {2, 2};
  std::vector<std::int32_t> strides = {2, 1};
};
std::string pickle_tensor(const TensorText& tensor);

/// An entry of an archive; what is set besides name and data may lie.
struct ZipText {
  std::string name;
  std::string data;
  std::uint16_t method = 0, flags = 0;
  std::int64_t stored_bytes = -1, bytes = -1;  // -1: those of data
  std::int64_t header = -1;                    // -1: where it is
};
std::string zip_of(const std::vector<ZipText>& entries);
/// The same with a zip64 directory and zip64 sizes.
std::string zip64_of(const std::vector<ZipText>& entries);

/// What torch.save writes for a pickled object and storages "0", "1", ...
std::string torch_zip(const std::string& pickle, const std::vector<std::string>& storages);
/// The same in the older form: each storage is its elements, counted.
struct LegacyStorage {
  std::string key;
  std::int64_t elements = 0;
  std::string data;
};
std::string torch_legacy(const std::string& pickle, const std::vector<LegacyStorage>& storages);

}  // namespace spillway::checkpoint::test
