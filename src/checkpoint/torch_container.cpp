// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/torch_container.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "checkpoint/state_dict.hpp"
#include "checkpoint/stored_values.hpp"
#include "core/error.hpp"

namespace spillway::checkpoint {
namespace {

using Kind = PickleObject::Kind;

// The pickles of torch's magic number 0x1950a86a20f9469cfc6c and of protocol version 1001, as torch.save writes them.
constexpr std::string_view kLegacyStart(
    "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\x2e\x80\x02\x4d\xe9\x03\x2e", 21);

std::vector<std::byte> read_bytes(const FileDescriptor& file, const std::string& path, const ZipEntry& part) {
  std::vector<std::byte> bytes(part.bytes);
  read_fully(file, path, part.offset, bytes);
  return bytes;
}

TorchContainer read_archive(const FileDescriptor& file, const std::string& path) {
  const std::map<std::string, ZipEntry> entries = read_zip_directory(file, path);
  constexpr std::string_view kPickle = "/data.pkl";
  const auto pickle = std::ranges::find_if(entries, [&](const auto& entry) { return entry.first.ends_with(kPickle); });
  if (pickle == entries.end()) throw DataError(fmt::format("{}: there is no data.pkl in the archive", path));
  if (pickle->second.bytes > kMaxPickleBytes)
    throw DataError(fmt::format("{}: {} has {} bytes, at most {} are allowed", path, pickle->first,
                                pickle->second.bytes, kMaxPickleBytes));
  const std::string folder = pickle->first.substr(0, pickle->first.size() - kPickle.size()) + "/";
  if (const auto order = entries.find(folder + "byteorder"); order != entries.end()) {
    const ZipEntry& entry = order->second;
    const auto bytes =
        read_bytes(file, path, {.offset = entry.offset, .bytes = std::min<std::uint64_t>(entry.bytes, 16)});
    if (std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()) != "little")
      throw DataError(fmt::format("{}: the values are not little-endian", path));
  }
  TorchContainer container;
  container.pickle = parse_pickle(read_bytes(file, path, pickle->second), path);
  const std::string data = folder + "data/";
  for (const auto& [name, entry] : entries)
    if (name.starts_with(data)) container.storages.emplace(name.substr(data.size()), entry);
  return container;
}

/// Reads pickles that stand one behind the other.
class PickleStream {
 public:
  PickleStream(const FileDescriptor& file, const std::string& path, std::uint64_t offset)
      : file_(file), path_(path), file_bytes_(size_of_file(path)), offset_(offset) {}

  Pickle next() {
    // Small ones are tried first with little: most of them have some bytes, and weights follow.
    for (std::uint64_t bytes = 1 << 16;; bytes *= 16) {
      const ZipEntry part{.offset = offset_, .bytes = std::min({file_bytes_ - offset_, bytes, kWhole})};
      try {
        Pickle pickle = parse_pickle(read_bytes(file_, path_, part), path_);
        offset_ += pickle.bytes;
        return pickle;
      } catch (const DataError&) {
        if (part.bytes == kWhole || part.bytes == file_bytes_ - offset_) throw;
      }
    }
  }
  [[nodiscard]] std::uint64_t offset() const { return offset_; }
  [[nodiscard]] std::uint64_t file_bytes() const { return file_bytes_; }

 private:
  static constexpr std::uint64_t kWhole = kMaxPickleBytes;
  const FileDescriptor& file_;
  const std::string& path_;
  std::uint64_t file_bytes_, offset_;
};

/// The machine facts are a dict with "little_endian".
bool says_big_endian(const Pickle& facts) {
  const PickleObject& root = facts.objects[facts.root];
  if (root.kind != Kind::dict) return false;
  for (std::size_t i = 0; i < root.items.size(); i += 2)
    if (facts.objects[root.items[i]].text == "little_endian" && facts.objects[root.items[i + 1]].integer == 0)
      return true;
  return false;
}

TorchContainer read_stream(const FileDescriptor& file, const std::string& path) {
  PickleStream stream(file, path, kLegacyStart.size());
  if (says_big_endian(stream.next())) throw DataError(fmt::format("{}: the values are not little-endian", path));
  TorchContainer container;
  container.pickle = stream.next();
  const Pickle keys = stream.next();
  // The stream has numbers of elements only: how large one is, the tensors say.
  std::map<std::string, std::uint64_t> element_bytes;
  for (const StateDictTensor& tensor : read_state_dict(container.pickle, path)) {
    const std::uint64_t bytes = bytes_of_dtype(tensor.dtype);
    if (element_bytes.emplace(tensor.storage, bytes).first->second != bytes)
      throw DataError(fmt::format("{}: tensor {}: storage {} has two types", path, tensor.name, tensor.storage));
  }
  std::uint64_t at = stream.offset();
  if (keys.objects[keys.root].kind != Kind::list)
    throw DataError(fmt::format("{}: expected a list of storages at byte {}", path, at));
  for (const std::uint32_t item : keys.objects[keys.root].items) {
    const std::string& key = keys.objects[item].text;
    const auto size = element_bytes.find(key);
    if (size == element_bytes.end()) throw DataError(fmt::format("{}: no tensor uses storage \"{}\"", path, key));
    std::int64_t elements = 0;
    std::uint64_t bytes = 0;
    if (stream.file_bytes() - at < sizeof(elements))
      throw DataError(fmt::format("{}: it ends before storage {}: it is truncated", path, key));
    read_fully(file, path, at, std::as_writable_bytes(std::span(&elements, 1)));
    at += sizeof(elements);
    if (elements < 0 || __builtin_mul_overflow(static_cast<std::uint64_t>(elements), size->second, &bytes) ||
        bytes > stream.file_bytes() - at)
      throw DataError(fmt::format("{}: storage {}: {} elements of {} bytes at byte {} of a file of {}", path, key,
                                  elements, size->second, at, stream.file_bytes()));
    if (!container.storages.emplace(key, ZipEntry{.offset = at, .bytes = bytes}).second)
      throw DataError(fmt::format("{}: storage {} is there twice", path, key));
    at += bytes;
  }
  if (at != stream.file_bytes())
    throw DataError(fmt::format("{}: the storages end at byte {}, the file at {}", path, at, stream.file_bytes()));
  return container;
}

}  // namespace

TorchContainer read_torch_container(const FileDescriptor& file, const std::string& path) {
  std::array<char, kLegacyStart.size()> start{};
  const std::uint64_t bytes = std::min<std::uint64_t>(start.size(), size_of_file(path));
  read_fully(file, path, 0, std::as_writable_bytes(std::span(start)).first(bytes));
  const std::string_view text(start.data(), bytes);
  if (text == kLegacyStart) return read_stream(file, path);
  if (text.starts_with("PK")) return read_archive(file, path);
  throw DataError(fmt::format("{}: it is no file of torch.save", path));
}

}  // namespace spillway::checkpoint
