// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/fixtures.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include <fcntl.h>
#include <gtest/gtest.h>

#include "checkpoint/directory.hpp"
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

void PatternSource::read(const std::string& kind, int unit, Range range, std::span<float> to) {
  std::ranges::fill(to, 0.0F);
  const std::int64_t first = shards_.shard(unit, rank_).begin;
  for (const TensorPiece& piece : shards_.pieces(unit, {first + range.begin, first + range.end})) {
    const std::uint64_t key = key_of(kind, shards_.tensors()[static_cast<std::size_t>(piece.tensor)].name);
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
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

std::string save(const std::string& root, std::int64_t step, const std::vector<TensorSpec>& tensors, int ranks,
                 const std::string& metadata) {
  const ShardMap shards(tensors, ranks);
  const std::string folder = prepare_folder(root, step);
  std::vector<FileRecord> records;
  PlainStorage storage;
  for (int rank = 0; rank < ranks; ++rank) {
    PatternSource source(shards, rank);
    const WriteRequest request{.root = root,
                               .step = step,
                               .shards = shards,
                               .metadata = metadata,
                               .creator = "a test",
                               .source = source,
                               .bulk = storage,
                               .staging_bytes = std::size_t{2} << 20};
    records.push_back(write_rank_part(folder, request, rank));
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
