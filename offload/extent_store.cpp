// SPDX-License-Identifier: Apache-2.0
#include "offload/extent_store.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include <fmt/core.h>
#include <xxhash.h>

#include "core/error.hpp"
#include "core/round_up.hpp"

namespace spillway::offload {

/// A transfer whose errors say what it moved; the waiter of a read checks what came.
class ExtentStore::NamedTransfer final : public Completion::State {
 public:
  struct Request {
    std::size_t extent;
    std::size_t kind;
    std::optional<std::span<const std::byte>> read;
  };

  NamedTransfer(const ExtentStore& extents, Completion transfer, Request request)
      : extents_(extents), transfer_(std::move(transfer)), request_(request) {}

  void wait() override {
    try {
      transfer_.wait();
    } catch (const IoError& error) {
      throw IoError(extents_.describe(request_.extent, request_.kind) + ": " + error.what());
    }
    if (request_.read) extents_.check_content(request_.extent, request_.kind, *request_.read);
  }

  [[nodiscard]] bool ready() override { return transfer_.ready(); }

 private:
  const ExtentStore& extents_;
  Completion transfer_;
  Request request_;
};

ExtentStore::ExtentStore(BlockStore& store, ExtentStoreOptions options, std::vector<std::vector<std::size_t>> extents)
    : store_(store), options_(std::move(options)) {
  if (options_.directories.empty()) throw ConfigError("offload: state goes to NVMe, but no directory is named");
  std::vector<std::uint64_t> file_bytes(options_.directories.size(), 0);
  for (std::size_t extent = 0; extent < extents.size(); ++extent) {
    if (extents[extent].size() != options_.kinds.size()) {
      throw Error(fmt::format("extent {} has {} kinds; {} expected", extent, extents[extent].size(), kinds()));
    }
    auto& end = file_bytes[extent % file_bytes.size()];
    auto& places = places_.emplace_back();
    for (const std::size_t bytes : extents[extent]) {
      places.push_back(Place{.bytes = bytes, .offset_bytes = end});
      end += round_up(bytes, store_.alignment());
    }
  }
  make_files(file_bytes);
}

void ExtentStore::make_files(const std::vector<std::uint64_t>& file_bytes) {
  folders_.reserve(file_bytes.size());
  files_.reserve(file_bytes.size());
  for (std::size_t i = 0; i < file_bytes.size(); ++i) {
    folders_.emplace_back(store_, options_.directories[i], options_.folder);
    files_.emplace_back(store_, fmt::format("{}/extents-{}", folders_.back().path(), i), file_bytes[i]);
  }
}

Completion ExtentStore::read(std::size_t extent, std::size_t kind, std::span<std::byte> buffer) {
  check_buffer(extent, kind, buffer.size());
  auto transfer = store_.read(file(extent).id(), place(extent, kind).offset_bytes, buffer);
  return Completion(std::make_shared<NamedTransfer>(
      *this, std::move(transfer),
      NamedTransfer::Request{.extent = extent, .kind = kind, .read = buffer.first(bytes(extent, kind))}));
}

Completion ExtentStore::write(std::size_t extent, std::size_t kind, std::span<const std::byte> buffer) {
  check_buffer(extent, kind, buffer.size());
  Place& there = places_[extent][kind];
  if (options_.checksum) there.checksum = XXH3_64bits(buffer.data(), there.bytes);
  there.written = true;
  return Completion(
      std::make_shared<NamedTransfer>(*this, store_.write(file(extent).id(), there.offset_bytes, buffer),
                                      NamedTransfer::Request{.extent = extent, .kind = kind, .read = std::nullopt}));
}

std::size_t ExtentStore::stored_bytes(std::size_t extent, std::size_t kind) const {
  return round_up(bytes(extent, kind), alignment());
}

std::vector<std::string> ExtentStore::paths() const {
  std::vector<std::string> paths;
  for (const auto& one : files_) paths.push_back(one.path());
  return paths;
}

void ExtentStore::check_buffer(std::size_t extent, std::size_t kind, std::size_t buffer_bytes) const {
  if (extent >= extents() || kind >= kinds()) {
    throw Error(fmt::format("extent {}, kind {}: there are {} extents of {} kinds", extent, kind, extents(), kinds()));
  }
  if (buffer_bytes != stored_bytes(extent, kind)) {
    throw Error(fmt::format("{}: a buffer of {} bytes; {} expected", describe(extent, kind), buffer_bytes,
                            stored_bytes(extent, kind)));
  }
}

void ExtentStore::check_content(std::size_t extent, std::size_t kind, std::span<const std::byte> content) const {
  if (!options_.checksum) return;
  const Place& there = place(extent, kind);
  if (!there.written) {
    const auto is_not_zero = [](std::byte value) { return value != std::byte{0}; };
    const auto wrong = std::find_if(content.begin(), content.end(), is_not_zero);
    if (wrong == content.end()) return;
    throw IoError(fmt::format("{}: never written, but byte {} is {} and not 0", describe(extent, kind),
                              wrong - content.begin(), static_cast<int>(*wrong)));
  }
  const std::uint64_t found = XXH3_64bits(content.data(), content.size());
  if (found != there.checksum) {
    throw IoError(fmt::format("{}: what was read is not what was written: checksum {:016x} expected, {:016x} found",
                              describe(extent, kind), there.checksum, found));
  }
}

std::string ExtentStore::describe(std::size_t extent, std::size_t kind) const {
  return fmt::format("extent {}, {}, file {} at offset {}", extent, options_.kinds[kind], file(extent).path(),
                     place(extent, kind).offset_bytes);
}

}  // namespace spillway::offload
