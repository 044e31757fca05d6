// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/manifest.hpp"

#include <charconv>
#include <set>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "checkpoint/hash.hpp"
#include "checkpoint/layout.hpp"
#include "core/error.hpp"
#include "core/json_depth.hpp"

namespace spillway::checkpoint {
namespace {

using Json = nlohmann::json;

/// Of a unit: far more than any model has, and few enough that no arithmetic on sizes can overflow.
constexpr std::int64_t kMostElements = std::int64_t{1} << 44;

std::uint64_t hash_from(const Json& value) {
  const auto& text = value.get_ref<const std::string&>();
  std::uint64_t hash = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), hash, 16);
  if (error != std::errc() || stop != text.data() + text.size() || hash_text(hash) != text)
    throw Error(fmt::format("\"{}\" is no hash of 16 hexadecimal digits", text));
  return hash;
}

Json json_from(const FileRecord& record) {
  Json metadata = Json::array();
  for (const MetadataRegion& region : record.metadata)
    metadata.push_back({{"offset", region.offset}, {"bytes", region.bytes}, {"hash", hash_text(region.hash)}});
  return {{"name", record.name}, {"bytes", record.bytes}, {"hash", hash_text(record.hash)}, {"metadata", metadata}};
}

FileRecord record_from(const Json& json) {
  FileRecord record{json.at("name"), json.at("bytes"), hash_from(json.at("hash")), {}};
  for (const Json& region : json.at("metadata"))
    record.metadata.push_back({region.at("offset"), region.at("bytes"), hash_from(region.at("hash"))});
  return record;
}

Json json_from(const TensorSpec& tensor) {
  Json shape = Json::array();
  for (int axis = 0; axis < tensor.shape.rank(); ++axis) shape.push_back(tensor.shape[axis]);
  return {{"name", tensor.name}, {"shape", shape}, {"unit", tensor.unit}, {"offset", tensor.offset}};
}

TensorSpec tensor_from(const Json& json) {
  TensorSpec tensor{json.at("name"), {}, json.at("unit"), json.at("offset")};
  const auto extents = json.at("shape").get<std::vector<std::int64_t>>();
  std::int64_t elements = 1;
  for (const std::int64_t extent : extents) {
    if (extent < 0 || __builtin_mul_overflow(elements, extent, &elements))
      throw Error(fmt::format("tensor {}: extent {} is out of range", tensor.name, extent));
  }
  tensor.shape = Shape(std::span(extents));
  if (tensor.offset < 0 || tensor.offset > kMostElements || elements > kMostElements - tensor.offset)
    throw Error(
        fmt::format("tensor {}: {} elements at offset {} are out of range", tensor.name, elements, tensor.offset));
  return tensor;
}

std::string text_with_hash(Json json) {
  const std::string canonical = json.dump();
  json["hash"] = hash_text(hash_of(std::as_bytes(std::span(canonical))));
  return json.dump(1) + "\n";
}

Json json_from(const std::vector<TensorSpec>& layout) {
  Json tensors = Json::array();
  for (const TensorSpec& tensor : layout) tensors.push_back(json_from(tensor));
  return tensors;
}

std::vector<TensorSpec> layout_from(const Json& json) {
  std::vector<TensorSpec> tensors;
  for (const Json& tensor : json) tensors.push_back(tensor_from(tensor));
  return tensors;
}

/// Before anything is made as large as the tables say.
void check_layouts(const Manifest& manifest) {
  std::set<std::string> kinds;
  for (const KindEntry& kind : manifest.kinds) {
    if (kind.name.empty() || kind.name.find('/') != std::string::npos || !kinds.insert(kind.name).second)
      throw Error(fmt::format("\"{}\" is no name of a kind, or the name of two", kind.name));
    if (kind.layout >= manifest.layouts.size())
      throw Error(fmt::format("{} has layout {}, found {} layouts", kind.name, kind.layout, manifest.layouts.size()));
  }
  if (manifest.layouts.size() > manifest.kinds.size())
    throw Error(fmt::format("{} layouts for {} kinds", manifest.layouts.size(), manifest.kinds.size()));
  for (const std::vector<TensorSpec>& layout : manifest.layouts) {
    std::set<std::string> names;
    for (const TensorSpec& tensor : layout)
      if (!names.insert(tensor.name).second) throw Error(fmt::format("tensor {} is there twice", tensor.name));
    static_cast<void>(ShardMap(layout, manifest.world_size));
  }
}

void check_files(const Manifest& manifest) {
  if (manifest.world_size < 1 || manifest.files.size() != static_cast<std::size_t>(manifest.world_size) + 1)
    throw Error(fmt::format("{} files for {} ranks, expected one for each and {}", manifest.files.size(),
                            manifest.world_size, kTensorFile));
  for (std::size_t i = 0; i < manifest.files.size(); ++i) {
    const bool is_rank_file = i + 1 < manifest.files.size();
    const std::string expected =
        is_rank_file ? rank_file_name(static_cast<int>(i), manifest.world_size) : std::string(kTensorFile);
    if (manifest.files[i].name != expected)
      throw Error(fmt::format("file {} where {} was expected", manifest.files[i].name, expected));
  }
}

}  // namespace

std::string manifest_text(const Manifest& manifest) {
  Json kinds = Json::array();
  for (const KindEntry& kind : manifest.kinds) kinds.push_back({{"name", kind.name}, {"layout", kind.layout}});
  Json layouts = Json::array();
  for (const std::vector<TensorSpec>& layout : manifest.layouts) layouts.push_back(json_from(layout));
  Json files = Json::array();
  for (const FileRecord& record : manifest.files) files.push_back(json_from(record));
  return text_with_hash({{"format", kFormatName},
                         {"version", kFormatVersion},
                         {"step", manifest.step},
                         {"sequence", manifest.sequence},
                         {"world_size", manifest.world_size},
                         {"kinds", kinds},
                         {"layouts", layouts},
                         {"files", files}});
}

Manifest parse_manifest(const std::string& text, const std::string& path) {
  check_json_depth(text, path);
  try {
    Json json = Json::parse(text);
    if (json.at("format") != kFormatName)
      throw Error(fmt::format("\"format\" is {}, expected \"{}\"", json.at("format").dump(), kFormatName));
    const Json version = json.at("version");
    if (version != kFormatVersion && version != kOldestVersion)
      throw Error(fmt::format("written in version {} of the format, this program reads versions {} and {}",
                              version.dump(), kOldestVersion, kFormatVersion));
    const std::uint64_t found = hash_from(json.at("hash"));
    json.erase("hash");
    if (text_with_hash(json) != text)
      throw Error(fmt::format("the text does not match its hash {}: it was changed or damaged", hash_text(found)));
    Manifest manifest{json.at("step"), json.at("sequence"), json.at("world_size"), {}, {}, {}};
    if (version == kOldestVersion) {
      for (const Json& kind : json.at("kinds")) manifest.kinds.push_back({kind, 0});
      manifest.layouts.push_back(layout_from(json.at("tensors")));
    } else {
      for (const Json& kind : json.at("kinds")) manifest.kinds.push_back({kind.at("name"), kind.at("layout")});
      for (const Json& layout : json.at("layouts")) manifest.layouts.push_back(layout_from(layout));
    }
    for (const Json& record : json.at("files")) manifest.files.push_back(record_from(record));
    check_files(manifest);
    check_layouts(manifest);
    return manifest;
  } catch (const std::exception& error) {
    throw DataError(fmt::format("{}: {}", path, error.what()));
  }
}

std::string file_record_text(const FileRecord& record) { return json_from(record).dump(); }

FileRecord parse_file_record(const std::string& text) { return record_from(Json::parse(text)); }

}  // namespace spillway::checkpoint
