// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/fixtures.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "checkpoint/directory.hpp"
#include "checkpoint/hash.hpp"
#include "checkpoint/layout.hpp"
#include "core/error.hpp"
#include "core/philox.hpp"
#include "support/thread_ranks.hpp"

namespace spillway::checkpoint {

const FileDescriptor& PlainStorage::file(const std::string& path) {
  auto found = files_.find(path);
  if (found == files_.end()) found = files_.emplace(path, open_file(path, O_RDWR)).first;
  return found->second;
}

void PlainStorage::write(const std::string& path, std::uint64_t offset_bytes, std::span<const std::byte> bytes) {
  EXPECT_EQ(offset_bytes % kAlignment, 0U);
  EXPECT_EQ(bytes.size() % kAlignment, 0U);
  EXPECT_EQ(std::bit_cast<std::uintptr_t>(bytes.data()) % kAlignment, 0U);
  if (bytes.size() > room_) throw IoError(path + ": writing failed", ENOSPC);
  room_ -= bytes.size();
  write_fully(file(path), path, offset_bytes, bytes);
}

void PlainStorage::read(const std::string& path, std::uint64_t offset_bytes, std::span<std::byte> bytes) {
  EXPECT_EQ(offset_bytes % kAlignment, 0U);
  EXPECT_EQ(bytes.size() % kAlignment, 0U);
  EXPECT_EQ(std::bit_cast<std::uintptr_t>(bytes.data()) % kAlignment, 0U);
  read_bytes_ += bytes.size();
  read_fully(file(path), path, offset_bytes, bytes);
}

std::vector<TensorSpec> small_tensors() {
  return {{"shared.weight", {37, 53}, 0, 0},
          {"encoder.final_layer_norm.weight", {53}, 0, 2048},
          {"encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", {32, 6}, 0, 2304},
          {"encoder.block.0.layer.0.SelfAttention.q.weight", {48, 53}, 1, 0},
          {"encoder.block.0.layer.0.layer_norm.weight", {53}, 1, 2560},
          {"decoder.block.0.layer.2.DenseReluDense.wo.weight", {53, 101}, 2, 0}};
}

std::vector<TensorSpec> large_tensors() {
  auto tensors = small_tensors();
  tensors.push_back({"lm_head.weight", {801, 1003}, 3, 0});
  return tensors;
}

namespace {

float element_of(std::uint64_t key, std::int64_t element) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(mix_key(key, static_cast<std::uint64_t>(element)) >> 17));
}

std::uint64_t key_of(const std::string& kind, const std::string& tensor) {
  return std::hash<std::string>()(kind + "/" + tensor);
}

}  // namespace

std::vector<float> whole_tensor(const std::string& kind, const TensorSpec& tensor) {
  std::vector<float> values(static_cast<std::size_t>(tensor.shape.elements()));
  const std::uint64_t key = key_of(kind, tensor.name);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = element_of(key, static_cast<std::int64_t>(i));
  return values;
}

std::vector<StateKind> kinds_over(const ShardMap& layout) {
  std::vector<StateKind> kinds;
  for (const std::string& kind : kKinds) kinds.push_back({kind, &layout});
  return kinds;
}

KindTensors kinds_of(const std::vector<TensorSpec>& tensors) {
  KindTensors kinds;
  for (const std::string& kind : kKinds) kinds.emplace_back(kind, tensors);
  return kinds;
}

KindTensors factored_kinds() {
  KindTensors kinds = {
      {"master", large_tensors()}, {"exp_avg", {}}, {"exp_avg_sq", {}}, {"exp_avg_sq_row", {}}, {"exp_avg_sq_col", {}}};
  const auto add = [](std::vector<TensorSpec>& to, TensorSpec tensor) {
    const bool first = to.empty() || to.back().unit != tensor.unit;
    tensor.offset = first ? 0 : round_up(to.back().offset + to.back().shape.elements(), kShardAlignment);
    to.push_back(tensor);
  };
  for (const TensorSpec& tensor : large_tensors()) {
    if (tensor.unit == 1) continue;
    add(kinds[1].second, tensor);
    if (tensor.shape.rank() == 1) {
      add(kinds[2].second, tensor);
      continue;
    }
    add(kinds[3].second, {tensor.name, {tensor.shape[0]}, tensor.unit, 0});
    add(kinds[4].second, {tensor.name, {tensor.shape[1]}, tensor.unit, 0});
  }
  return kinds;
}

Layouts::Layouts(const KindTensors& kinds, int ranks) {
  for (const auto& [kind, tensors] : kinds) {
    maps_.push_back(std::make_unique<ShardMap>(tensors, ranks));
    kinds_.push_back({kind, maps_.back().get()});
  }
}

void PatternSource::read(const std::string& kind, int unit, Range range, std::span<float> to) {
  std::ranges::fill(to, 0.0F);
  const ShardMap& layout = *std::ranges::find(kinds_, kind, &StateKind::name)->layout;
  const std::int64_t first = layout.shard(unit, piece_).begin;
  for (const TensorPiece& piece : layout.pieces(unit, {first + range.begin, first + range.end})) {
    const std::uint64_t key = key_of(kind, layout.tensors()[static_cast<std::size_t>(piece.tensor)].name);
    for (std::int64_t i = 0; i < piece.count; ++i)
      to[static_cast<std::size_t>(piece.range_begin + i)] = element_of(key, piece.tensor_begin + i);
  }
}

void KeepingSink::write(const std::string& kind, int unit, Range range, std::span<const float> from) {
  auto& shard = shards_[{kind, unit}];
  EXPECT_EQ(range.begin, static_cast<std::int64_t>(shard.size()));
  EXPECT_EQ(range.size(), static_cast<std::int64_t>(from.size()));
  shard.insert(shard.end(), from.begin(), from.end());
}

bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size_bytes()) == 0);
}

std::string save(const std::string& root, std::int64_t step, const std::vector<TensorSpec>& tensors, int ranks,
                 const std::string& metadata) {
  return save(root, step, kinds_of(tensors), ranks, metadata);
}

std::string save(const std::string& root, std::int64_t step, const KindTensors& kinds, int ranks,
                 const std::string& metadata) {
  const Layouts layouts(kinds, ranks);
  const std::string folder = prepare_folder(root, step);
  std::vector<FileRecord> records;
  PlainStorage storage;
  for (int rank = 0; rank < ranks; ++rank) {
    PatternSource source(layouts.kinds(), rank);
    const WriteRequest request{.root = root,
                               .step = step,
                               .piece = rank,
                               .metadata = metadata,
                               .creator = "a test",
                               .source = source,
                               .bulk = storage,
                               .staging_bytes = std::size_t{2} << 20};
    records.push_back(write_rank_part(folder, request));
    if (rank == ranks - 1) write_root_part(folder, request, records);
  }
  EXPECT_EQ(storage.open_files(), 0U);
  return commit_folder(root, step);
}

std::vector<std::string> on_ranks(int ranks, const std::function<void(comm::Communicator&)>& work) {
  std::vector<std::string> failures(static_cast<std::size_t>(ranks));
  test::run_on_thread_ranks(ranks, [&](comm::Communicator& communicator) {
    try {
      work(communicator);
    } catch (const std::exception& error) {  // not passed on: the others find out by themselves, or the test hangs
      failures[static_cast<std::size_t>(communicator.rank())] = error.what();
    }
  });
  return failures;
}

std::string as_version_1(const std::string& manifest) {
  auto json = nlohmann::json::parse(manifest);
  json["version"] = 1;
  json["tensors"] = json.at("layouts").at(0);
  for (auto& kind : json.at("kinds")) kind = std::string(kind.at("name"));
  json.erase("layouts");
  json.erase("hash");
  const std::string canonical = json.dump();
  json["hash"] = hash_text(hash_of(std::as_bytes(std::span(canonical))));
  return json.dump(1) + "\n";
}

void flip_byte(const std::string& path, std::uint64_t offset) {
  const FileDescriptor file = open_file(path, O_RDWR);
  std::byte byte{};
  read_fully(file, path, offset, {&byte, 1});
  byte ^= std::byte{0x40};
  write_fully(file, path, offset, {&byte, 1});
}

std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    names.push_back(entry.path().filename().string());
  std::ranges::sort(names);
  return names;
}

}  // namespace spillway::checkpoint
