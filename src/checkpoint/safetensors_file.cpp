// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/safetensors_file.hpp"

#include <algorithm>
#include <cstring>
#include <set>

#include <fcntl.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "checkpoint/stored_values.hpp"
#include "core/error.hpp"
#include "core/json_depth.hpp"

namespace spillway::checkpoint {
namespace {

using Json = nlohmann::json;

constexpr std::uint64_t kLengthBytes = 8;

/// A tensor with its range of bytes from the start of the file.
struct Entry {
  StoredTensor tensor;
  std::uint64_t begin = 0, end = 0;
};

/// Parses, refusing what the JSON library lets pass: a name twice in one object, and nesting deeper than a header has.
Json parse_strictly(const std::string& text, const std::string& path) {
  constexpr int kDeepest = 3;
  check_json_depth(text, path, kDeepest);
  std::vector<std::set<std::string>> names;
  const auto inspect = [&](int /*depth*/, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start) names.emplace_back();
    if (event == Json::parse_event_t::object_end) names.pop_back();
    if (event == Json::parse_event_t::key && !names.back().insert(parsed.get<std::string>()).second)
      throw DataError(fmt::format("{}: the header has \"{}\" twice", path, parsed.get<std::string>()));
    return true;
  };
  try {
    return Json::parse(text, inspect);
  } catch (const Json::exception& error) {
    throw DataError(fmt::format("{}: the header is not valid JSON: {}", path, error.what()));
  }
}

std::uint64_t unsigned_of(const Json& value) {
  if (!value.is_number_unsigned()) throw Error(fmt::format("{} is no whole number from 0 upwards", value.dump()));
  return value.get<std::uint64_t>();
}

/// \throws Error saying what is wrong, without file and tensor
Entry entry_from(const std::string& name, const Json& json, std::uint64_t data_begin, std::uint64_t file_bytes) {
  if (!json.is_object() || json.size() != 3 || !json.contains("dtype") || !json.contains("shape") ||
      !json.contains("data_offsets"))
    throw Error("expected an object of dtype, shape and data_offsets");
  Entry entry{.tensor = {.name = name, .dtype = json.at("dtype").get<std::string>(), .shape = {}}};
  std::uint64_t bytes = bytes_of_dtype(entry.tensor.dtype);
  if (bytes == 0) throw Error(fmt::format("dtype {} is not known", entry.tensor.dtype));
  if (!json.at("shape").is_array()) throw Error(fmt::format("shape {} is no list", json.at("shape").dump()));
  for (const Json& extent : json.at("shape")) {
    const std::uint64_t value = unsigned_of(extent);
    if (value > INT64_MAX || __builtin_mul_overflow(bytes, value, &bytes))
      throw Error(fmt::format("the size of shape {} overflows", json.at("shape").dump()));
    entry.tensor.shape.push_back(static_cast<std::int64_t>(value));
  }
  const Json& offsets = json.at("data_offsets");
  if (!offsets.is_array() || offsets.size() != 2)
    throw Error(fmt::format("data_offsets {} is no pair", offsets.dump()));
  const std::uint64_t begin = unsigned_of(offsets[0]), end = unsigned_of(offsets[1]),
                      available = file_bytes - data_begin;
  if (begin > end || end > available)
    throw Error(fmt::format("data_offsets {} to {} do not lie in the {} bytes of data", begin, end, available));
  if (end - begin != bytes)
    throw Error(fmt::format("data_offsets {} to {} hold {} bytes, expected {} for {} {}", begin, end, end - begin,
                            bytes, entry.tensor.dtype, json.at("shape").dump()));
  entry.begin = data_begin + begin;
  entry.end = data_begin + end;
  return entry;
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::string& path) : path_(path), file_(open_input(path)) {
  const std::uint64_t file_bytes = size_of_file(path);
  if (file_bytes < kLengthBytes)
    throw DataError(fmt::format("{}: {} bytes are too few for a safetensors file", path, file_bytes));
  std::uint64_t header_bytes = 0;
  read_fully(file_, path, 0, std::as_writable_bytes(std::span(&header_bytes, 1)));
  if (header_bytes > kMaxSafetensorsHeader)
    throw DataError(
        fmt::format("{}: a header of {} bytes, at most {} are allowed", path, header_bytes, kMaxSafetensorsHeader));
  if (header_bytes > file_bytes - kLengthBytes)
    throw DataError(
        fmt::format("{}: a header of {} bytes in a file of {}: it is truncated", path, header_bytes, file_bytes));
  std::string text(header_bytes, '\0');
  read_fully(file_, path, kLengthBytes, std::as_writable_bytes(std::span(text)));
  if (!text.starts_with('{')) throw DataError(fmt::format("{}: the header does not start with {{", path));
  parse_header(text, kLengthBytes + header_bytes, file_bytes);
}

void SafetensorsFile::parse_header(const std::string& text, std::uint64_t data_begin, std::uint64_t file_bytes) {
  const Json header = parse_strictly(text, path_);
  std::vector<Entry> entries;
  for (const auto& [name, value] : header.items()) {
    try {
      if (name == "__metadata__") {
        if (!value.is_object()) throw Error("expected an object of strings");
        for (const auto& [key, entry] : value.items()) metadata_[key] = entry.get<std::string>();
      } else {
        entries.push_back(entry_from(name, value, data_begin, file_bytes));
      }
    } catch (const std::exception& error) {
      throw DataError(fmt::format("{}: tensor {}: {}", path_, name, error.what()));
    }
  }
  std::ranges::sort(entries, {}, [](const Entry& entry) { return std::pair(entry.begin, entry.end); });
  std::uint64_t end = data_begin;
  for (Entry& entry : entries) {
    if (entry.begin != end)
      throw DataError(fmt::format("{}: tensor {}: starts at byte {}, expected {}: tensors {}", path_, entry.tensor.name,
                                  entry.begin - data_begin, end - data_begin,
                                  entry.begin < end ? "overlap" : "leave a hole"));
    end = entry.end;
    add(std::move(entry.tensor));
    begins_.push_back(entry.begin);
  }
  if (end != file_bytes)
    throw DataError(fmt::format("{}: the tensors end at byte {}, the file at {}", path_, end, file_bytes));
}

void SafetensorsFile::read(std::string_view name, std::int64_t begin, std::span<float> to) const {
  const std::size_t index = index_of(name);
  const StoredTensor& tensor = tensors()[index];
  const auto count = static_cast<std::int64_t>(to.size());
  if (begin < 0 || begin > tensor.elements() || count > tensor.elements() - begin)
    throw DataError(
        fmt::format("{}: tensor {}: elements {} to {} of {}", path_, name, begin, begin + count, tensor.elements()));
  if (!is_float_dtype(tensor.dtype))
    throw DataError(fmt::format("{}: tensor {}: dtype {}, expected F64, F32, F16 or BF16", path_, name, tensor.dtype));
  read_floats(file_, path_, begins_[index] + static_cast<std::uint64_t>(begin) * bytes_of_dtype(tensor.dtype),
              tensor.dtype, to);
}

}  // namespace spillway::checkpoint
