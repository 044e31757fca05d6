// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/zip_archive.hpp"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "core/error.hpp"

namespace spillway::checkpoint {
namespace {

constexpr std::uint32_t kLocalSignature = 0x04034b50;
constexpr std::uint32_t kDirectorySignature = 0x02014b50;
constexpr std::uint32_t kEndSignature = 0x06054b50;
constexpr std::uint32_t kEnd64Signature = 0x06064b50;
constexpr std::uint32_t kLocatorSignature = 0x07064b50;
constexpr std::uint64_t kLocalBytes = 30, kDirectoryBytes = 46, kEndBytes = 22, kEnd64Bytes = 56, kLocatorBytes = 20;
constexpr std::uint64_t kIn64 = UINT32_MAX;  // the value is in the zip64 field

/// Bytes of the archive in memory. \throws DataError where they end
class Bytes {
 public:
  Bytes(const FileDescriptor& file, const std::string& path, std::uint64_t offset, std::uint64_t count,
        std::uint64_t file_bytes)
      : path_(path) {
    if (offset > file_bytes || count > file_bytes - offset)
      throw DataError(fmt::format("{}: {} bytes at {} of a file of {}: it is truncated or damaged", path, count, offset,
                                  file_bytes));
    bytes_.resize(count);
    read_fully(file, path, offset, bytes_);
  }
  [[nodiscard]] std::uint64_t size() const { return bytes_.size(); }
  template <typename Number>
  [[nodiscard]] Number number(std::uint64_t at) const {
    Number value;
    std::memcpy(&value, part(at, sizeof(value)), sizeof(value));
    return value;
  }
  [[nodiscard]] std::string text(std::uint64_t at, std::uint64_t count) const {
    return {reinterpret_cast<const char*>(part(at, count)), count};
  }

 private:
  [[nodiscard]] const std::byte* part(std::uint64_t at, std::uint64_t count) const {
    if (at > bytes_.size() || count > bytes_.size() - at)
      throw DataError(fmt::format("{}: the directory of the archive is truncated", path_));
    return bytes_.data() + at;
  }
  const std::string& path_;
  std::vector<std::byte> bytes_;
};

struct Directory {
  std::uint64_t offset = 0, bytes = 0, entries = 0;
};

Directory find_directory(const FileDescriptor& file, const std::string& path, std::uint64_t file_bytes) {
  if (file_bytes < kEndBytes) throw DataError(fmt::format("{}: {} bytes are too few for an archive", path, file_bytes));
  const std::uint64_t tail_bytes = std::min(file_bytes, kEndBytes + UINT16_MAX);  // a comment may follow
  const Bytes tail(file, path, file_bytes - tail_bytes, tail_bytes, file_bytes);
  std::uint64_t at = tail_bytes - kEndBytes + 1;
  do {
    if (at == 0) throw DataError(fmt::format("{}: the archive has no directory: it is truncated", path));
    --at;
    // The comment may hold the signature too, but not the number of its own bytes behind it.
  } while (tail.number<std::uint32_t>(at) != kEndSignature ||
           tail.number<std::uint16_t>(at + 20) != tail_bytes - kEndBytes - at);
  Directory directory{.offset = tail.number<std::uint32_t>(at + 16),
                      .bytes = tail.number<std::uint32_t>(at + 12),
                      .entries = tail.number<std::uint16_t>(at + 10)};
  if (directory.offset == kIn64 || directory.bytes == kIn64 || directory.entries == UINT16_MAX) {
    const std::uint64_t end = file_bytes - tail_bytes + at;
    if (end < kLocatorBytes) throw DataError(fmt::format("{}: the archive has no zip64 directory", path));
    const Bytes locator(file, path, end - kLocatorBytes, kLocatorBytes, file_bytes);
    if (locator.number<std::uint32_t>(0) != kLocatorSignature)
      throw DataError(fmt::format("{}: the archive has no zip64 directory", path));
    const Bytes end64(file, path, locator.number<std::uint64_t>(8), kEnd64Bytes, file_bytes);
    if (end64.number<std::uint32_t>(0) != kEnd64Signature)
      throw DataError(fmt::format("{}: the archive has no zip64 directory", path));
    directory = {.offset = end64.number<std::uint64_t>(48),
                 .bytes = end64.number<std::uint64_t>(40),
                 .entries = end64.number<std::uint64_t>(32)};
  }
  if (directory.bytes > kMaxZipDirectory)
    throw DataError(
        fmt::format("{}: a directory of {} bytes, at most {} are allowed", path, directory.bytes, kMaxZipDirectory));
  return directory;
}

/// Sizes and place of an entry: 32 bits each in the directory, or in the zip64 field, in this order where they do not fit.
struct Facts {
  std::uint64_t bytes, stored_bytes, header;
};

Facts facts_of(const Bytes& directory, std::uint64_t at, std::uint64_t extra, std::uint64_t extra_end) {
  Facts facts{.bytes = directory.number<std::uint32_t>(at + 24),
              .stored_bytes = directory.number<std::uint32_t>(at + 20),
              .header = directory.number<std::uint32_t>(at + 42)};
  while (extra + 4 <= extra_end) {
    std::uint64_t field = extra + 4;
    extra = field + directory.number<std::uint16_t>(extra + 2);
    if (directory.number<std::uint16_t>(field - 4) != 1) continue;
    for (std::uint64_t* value : {&facts.bytes, &facts.stored_bytes, &facts.header}) {
      if (*value != kIn64 || field + 8 > std::min(extra, extra_end)) continue;
      *value = directory.number<std::uint64_t>(field);
      field += 8;
    }
  }
  return facts;
}

/// Where an entry's bytes begin, behind its local header, which must name it too.
std::uint64_t data_offset(const FileDescriptor& file, const std::string& path, const std::string& name,
                          std::uint64_t header, std::uint64_t file_bytes) {
  const Bytes fixed(file, path, header, kLocalBytes, file_bytes);
  const auto name_bytes = fixed.number<std::uint16_t>(26);
  if (fixed.number<std::uint32_t>(0) != kLocalSignature ||
      Bytes(file, path, header + kLocalBytes, name_bytes, file_bytes).text(0, name_bytes) != name)
    throw DataError(fmt::format("{}: entry {}: there is no header of it at byte {}", path, name, header));
  return header + kLocalBytes + name_bytes + fixed.number<std::uint16_t>(28);
}

}  // namespace

std::map<std::string, ZipEntry> read_zip_directory(const FileDescriptor& file, const std::string& path) {
  const std::uint64_t file_bytes = size_of_file(path);
  const Directory place = find_directory(file, path, file_bytes);
  const Bytes directory(file, path, place.offset, place.bytes, file_bytes);
  std::map<std::string, ZipEntry> entries;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges;  // [header, end of data) of each entry
  std::uint64_t at = 0;
  for (std::uint64_t entry = 0; entry < place.entries; ++entry) {
    if (directory.number<std::uint32_t>(at) != kDirectorySignature)
      throw DataError(fmt::format("{}: entry {} of the archive's directory is damaged", path, entry));
    const std::uint64_t name_bytes = directory.number<std::uint16_t>(at + 28);
    const std::uint64_t extra = at + kDirectoryBytes + name_bytes;
    const std::uint64_t extra_end = extra + directory.number<std::uint16_t>(at + 30);
    const std::string name = directory.text(at + kDirectoryBytes, name_bytes);
    const Facts facts = facts_of(directory, at, extra, extra_end);
    if (directory.number<std::uint16_t>(at + 10) != 0 || (directory.number<std::uint16_t>(at + 8) & 1U) != 0)
      throw DataError(fmt::format("{}: entry {} is compressed or encrypted, which torch.save never does", path, name));
    if (facts.bytes != facts.stored_bytes)
      throw DataError(fmt::format("{}: entry {}: {} bytes stored for {}", path, name, facts.stored_bytes, facts.bytes));
    const std::uint64_t begin = data_offset(file, path, name, facts.header, file_bytes);
    if (begin > file_bytes || facts.bytes > file_bytes - begin)
      throw DataError(
          fmt::format("{}: entry {}: {} bytes at {} of a file of {}", path, name, facts.bytes, begin, file_bytes));
    if (!entries.emplace(name, ZipEntry{begin, facts.bytes}).second)
      throw DataError(fmt::format("{}: entry {} is there twice", path, name));
    ranges.emplace_back(facts.header, begin + facts.bytes);
    at = extra_end + directory.number<std::uint16_t>(at + 32);
  }
  std::ranges::sort(ranges);
  for (std::size_t i = 1; i < ranges.size(); ++i)
    if (ranges[i].first < ranges[i - 1].second)
      throw DataError(fmt::format("{}: entries overlap at byte {}", path, ranges[i].first));
  return entries;
}

}  // namespace spillway::checkpoint
