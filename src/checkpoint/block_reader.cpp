// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/block_reader.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "checkpoint/hash.hpp"
#include "core/error.hpp"
#include "core/log.hpp"

namespace spillway::checkpoint {

BlockReader::~BlockReader() {
  for (const std::string& path : open_) {
    try {
      bulk_.finish(path);
    } catch (const std::exception& error) {
      log::error(fmt::format("{}: closing failed: {}", path, error.what()));
    }
  }
}

void BlockReader::read(const StoredDataset& dataset, std::int64_t begin, std::span<float> to) {
  const auto bytes = std::as_writable_bytes(to);
  const std::uint64_t start = static_cast<std::uint64_t>(begin) * sizeof(float);
  if (start + bytes.size() > dataset.bytes)
    throw Error(fmt::format("{}, {}: elements {} to {} of {}", dataset.path, dataset.name, begin,
                            begin + static_cast<std::int64_t>(to.size()), dataset.bytes / sizeof(float)));
  for (std::size_t done = 0; done < bytes.size();) {
    const std::size_t block = (start + done) / kHashBlock;
    if (loaded_ != &dataset || block < first_ || block >= end_) {
      load(dataset, block, (start + bytes.size() - 1) / kHashBlock);
      for (std::size_t i = first_; i < end_; ++i) {
        if (const auto damage = difference(dataset, i)) {
          loaded_ = nullptr;
          throw *damage;
        }
      }
    }
    const std::size_t inside = start + done - first_ * kHashBlock;
    const std::size_t available =
        std::min<std::uint64_t>(end_ * kHashBlock, dataset.bytes) - first_ * kHashBlock - inside;
    const std::size_t count = std::min(available, bytes.size() - done);
    std::memcpy(bytes.data() + done, staging_.bytes().data() + inside, count);
    done += count;
  }
}

std::vector<DamagedBlock> BlockReader::check(const StoredDataset& dataset) {
  std::vector<DamagedBlock> differences;
  for (std::size_t block = 0; block < dataset.hashes.size(); block = end_) {
    load(dataset, block, dataset.hashes.size() - 1);
    for (std::size_t i = first_; i < end_; ++i)
      if (auto damage = difference(dataset, i)) differences.push_back(*std::move(damage));
  }
  loaded_ = nullptr;
  return differences;
}

void BlockReader::load(const StoredDataset& dataset, std::size_t first, std::size_t last) {
  const std::size_t end = std::min(first + staging_.blocks(), last + 1);
  const std::size_t bytes = (end - 1 - first) * kHashBlock + dataset.block_bytes(end - 1);
  loaded_ = nullptr;
  open_.insert(dataset.path);
  bulk_.read(dataset.path, dataset.offset + first * kHashBlock, staging_.bytes().first(bytes));
  loaded_ = &dataset;
  first_ = first;
  end_ = end;
}

std::optional<DamagedBlock> BlockReader::difference(const StoredDataset& dataset, std::size_t block) const {
  const std::uint64_t size = dataset.block_bytes(block);
  const std::uint64_t found = hash_of(staging_.bytes().subspan((block - first_) * kHashBlock, size));
  if (found == dataset.hashes[block]) return std::nullopt;
  const std::uint64_t offset = dataset.offset + block * kHashBlock;
  return DamagedBlock(
      fmt::format("{}: MiB {} of {} (bytes {} to {} of the file) is damaged: hash {}, expected {}", dataset.path, block,
                  dataset.name, offset, offset + size, hash_text(found), hash_text(dataset.hashes[block])),
      block);
}

}  // namespace spillway::checkpoint
