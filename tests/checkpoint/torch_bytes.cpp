// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/torch_bytes.hpp"

namespace spillway::checkpoint::test {

std::string pickle_text(std::string_view text) {
  return "X" + bytes_of(static_cast<std::uint32_t>(text.size())) + std::string(text);
}

std::string pickle_integer(std::int32_t value) { return "J" + bytes_of(value); }

std::string pickle_global(std::string_view module, std::string_view name) {
  return "c" + std::string(module) + "\n" + std::string(name) + "\n";
}

std::string pickle_tuple(const std::vector<std::string>& items) {
  std::string text = "(";
  for (const std::string& item : items) text += item;
  return text + "t";
}

std::string pickle_of(std::string_view body) { return "\x80\x02" + std::string(body) + "."; }

std::string pickle_dict(const std::vector<std::pair<std::string, std::string>>& entries) {
  std::string text = pickle_global("collections", "OrderedDict") + ")R(";
  for (const auto& [name, value] : entries) text += pickle_text(name) + value;
  return text + "u";
}

std::string pickle_tensor(const TensorText& tensor) {
  const auto integers = [](const std::vector<std::int32_t>& values) {
    std::vector<std::string> items;
    for (const std::int32_t value : values) items.push_back(pickle_integer(value));
    return pickle_tuple(items);
  };
  const std::string storage =
      pickle_tuple({pickle_text("storage"), pickle_global("torch", tensor.type), pickle_text(tensor.key),
                    pickle_text("cpu"), pickle_integer(tensor.storage_elements)}) +
      "Q";
  return pickle_global("torch._utils", "_rebuild_tensor_v2") +
         pickle_tuple({storage, pickle_integer(tensor.offset), integers(tensor.shape), integers(tensor.strides), "\x89",
                       pickle_dict({})}) +
         "R";
}

namespace {

std::string zip_with(const std::vector<ZipText>& entries, bool zip64) {
  const auto half = [](std::uint64_t value) { return bytes_of(static_cast<std::uint16_t>(value)); };
  const auto word = [](std::uint64_t value) { return bytes_of(static_cast<std::uint32_t>(value)); };
  std::string file;
  std::string directory;
  for (const ZipText& entry : entries) {
    const std::uint64_t bytes = entry.bytes < 0 ? entry.data.size() : static_cast<std::uint64_t>(entry.bytes);
    const std::uint64_t stored =
        entry.stored_bytes < 0 ? entry.data.size() : static_cast<std::uint64_t>(entry.stored_bytes);
    const std::uint64_t header = entry.header < 0 ? file.size() : static_cast<std::uint64_t>(entry.header);
    const std::string extra =
        zip64 ? half(1) + half(24) + bytes_of(bytes) + bytes_of(stored) + bytes_of(header) : std::string();
    const std::string sizes = zip64 ? word(UINT32_MAX) + word(UINT32_MAX) : word(stored) + word(bytes);
    file += "PK\x03\x04" + half(20) + half(entry.flags) + half(entry.method) + word(0) + word(0) + word(0) + word(0) +
            half(entry.name.size()) + half(0) + entry.name + entry.data;
    directory += "PK\x01\x02" + half(20) + half(20) + half(entry.flags) + half(entry.method) + word(0) + word(0) +
                 sizes + half(entry.name.size()) + half(extra.size()) + half(0) + half(0) + half(0) + word(0) +
                 (zip64 ? word(UINT32_MAX) : word(header)) + entry.name + extra;
  }
  const std::uint64_t begin = file.size();
  file += directory;
  if (zip64) {
    const std::uint64_t end = file.size();
    file += "PK\x06\x06" + bytes_of(std::uint64_t{44}) + half(45) + half(45) + word(0) + word(0) +
            bytes_of(static_cast<std::uint64_t>(entries.size())) +
            bytes_of(static_cast<std::uint64_t>(entries.size())) +
            bytes_of(static_cast<std::uint64_t>(directory.size())) + bytes_of(begin);
    file += "PK\x06\x07" + word(0) + bytes_of(end) + word(1);
  }
  file += "PK\x05\x06" + half(0) + half(0) + half(zip64 ? UINT16_MAX : entries.size()) +
          half(zip64 ? UINT16_MAX : entries.size()) + word(zip64 ? UINT32_MAX : directory.size()) +
          word(zip64 ? UINT32_MAX : begin) + half(0);
  return file;
}

}  // namespace

std::string zip_of(const std::vector<ZipText>& entries) { return zip_with(entries, false); }
std::string zip64_of(const std::vector<ZipText>& entries) { return zip_with(entries, true); }

std::string torch_zip(const std::string& pickle, const std::vector<std::string>& storages) {
  std::vector<ZipText> entries = {{.name = "archive/data.pkl", .data = pickle}};
  for (std::size_t i = 0; i < storages.size(); ++i)
    entries.push_back({.name = "archive/data/" + std::to_string(i), .data = storages[i]});
  entries.push_back({.name = "archive/version", .data = "3\n"});
  return zip_of(entries);
}

std::string torch_legacy(const std::string& pickle, const std::vector<LegacyStorage>& storages) {
  std::string file("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\x2e\x80\x02\x4d\xe9\x03\x2e", 21);
  file += pickle_of("}(" + pickle_text("little_endian") + "\x88u") + pickle;
  std::string keys = "](";
  for (const LegacyStorage& storage : storages) keys += pickle_text(storage.key);
  file += pickle_of(keys + "e");
  for (const LegacyStorage& storage : storages) file += bytes_of(storage.elements) + storage.data;
  return file;
}

}  // namespace spillway::checkpoint::test
