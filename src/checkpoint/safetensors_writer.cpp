// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/safetensors_writer.hpp"

#include <algorithm>
#include <array>
#include <bit>

#include <fcntl.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "checkpoint/files.hpp"
#include "core/error.hpp"

namespace spillway::checkpoint {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian");

std::string dtype_name(const SafetensorsSpec& tensor) {
  switch (tensor.dtype) {
    case DType::f32: return "F32";
    case DType::f16: return "F16";
    case DType::bf16: return "BF16";
    default:
      throw Error(fmt::format("tensor {}: writing {} is not possible, only f32, f16 and bf16", tensor.name,
                              name_of(tensor.dtype)));
  }
}

std::int64_t elements_of(const SafetensorsSpec& tensor) {
  std::int64_t product = 1;
  for (const std::int64_t extent : tensor.shape)
    if (extent < 0 || __builtin_mul_overflow(product, extent, &product))
      throw Error(
          fmt::format("tensor {}: the size of shape ({}) overflows", tensor.name, fmt::join(tensor.shape, ", ")));
  return product;
}

std::string temporary_of(const std::string& path) { return path + ".tmp"; }

void narrow(DType dtype, std::span<const float> from, std::span<std::uint16_t> to) {
  std::ranges::transform(from, to.begin(), dtype == DType::bf16 ? bf16_from_float : f16_from_float);
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(std::vector<SafetensorsSpec> tensors,
                                     const std::map<std::string, std::string>& metadata) {
  std::ranges::sort(tensors, [](const SafetensorsSpec& a, const SafetensorsSpec& b) {
    return std::pair(size_of(b.dtype), std::string_view(a.name)) <
           std::pair(size_of(a.dtype), std::string_view(b.name));
  });
  nlohmann::ordered_json json;
  json["__metadata__"] = {{"format", "pt"}};
  for (const auto& [key, value] : metadata) json["__metadata__"][key] = value;
  std::uint64_t end = 0;
  for (const SafetensorsSpec& tensor : tensors) {
    const std::int64_t elements = elements_of(tensor);
    std::uint64_t bytes = size_of(tensor.dtype), next = 0;
    if (__builtin_mul_overflow(bytes, static_cast<std::uint64_t>(elements), &bytes) ||
        __builtin_add_overflow(end, bytes, &next))
      throw Error(fmt::format("tensor {}: the size of the file overflows", tensor.name));
    if (!places_.emplace(tensor.name, Place{tensor.dtype, elements, end}).second)
      throw Error(fmt::format("tensor {} is there twice", tensor.name));
    json[tensor.name] = {{"dtype", dtype_name(tensor)}, {"shape", tensor.shape}, {"data_offsets", {end, next}}};
    end = next;
  }
  std::string text = json.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  const std::uint64_t length = text.size();
  header_.assign(reinterpret_cast<const char*>(&length), sizeof(length));
  header_ += text;
  for (auto& [name, place] : places_) place.offset += header_.size();
  file_bytes_ = header_.size() + end;
}

void SafetensorsWriter::create(const std::string& path) const {
  const std::string temporary = temporary_of(path);
  const FileDescriptor file = open_file(temporary, O_WRONLY | O_CREAT | O_TRUNC);
  reserve_file(file, temporary, file_bytes_);
  write_fully(file, temporary, 0, std::as_bytes(std::span(header_)));
}

void SafetensorsWriter::write_slice(const std::string& path, const std::string& name, std::int64_t begin,
                                    std::span<const float> values) const {
  const auto found = places_.find(name);
  if (found == places_.end()) throw Error(fmt::format("{}: there is no tensor {}", path, name));
  const Place& place = found->second;
  const auto count = static_cast<std::int64_t>(values.size());
  if (begin < 0 || begin > place.elements || count > place.elements - begin)
    throw Error(
        fmt::format("{}: tensor {}: elements {} to {} of {}", path, name, begin, begin + count, place.elements));
  const std::string temporary = temporary_of(path);
  const FileDescriptor file = open_file(temporary, O_WRONLY);
  const std::uint64_t bytes = size_of(place.dtype);
  const std::uint64_t offset = place.offset + static_cast<std::uint64_t>(begin) * bytes;
  if (place.dtype == DType::f32) {
    write_fully(file, temporary, offset, std::as_bytes(values));
    return;
  }
  std::array<std::uint16_t, 16384> chunk;
  for (std::size_t done = 0; done < values.size(); done += chunk.size()) {
    const auto part = values.subspan(done, std::min(chunk.size(), values.size() - done));
    narrow(place.dtype, part, chunk);
    write_fully(file, temporary, offset + done * bytes, std::as_bytes(std::span(chunk).first(part.size())));
  }
}

void SafetensorsWriter::commit(const std::string& path) const {
  const std::string temporary = temporary_of(path);
  sync_path(temporary);
  rename_path(temporary, path);
  sync_path(folder_of(path));
}

}  // namespace spillway::checkpoint
