// SPDX-License-Identifier: Apache-2.0
#include "train/bulk_files.hpp"

#include "core/error.hpp"
#include "core/log.hpp"

namespace spillway::train {

BulkFiles::~BulkFiles() {
  for (const auto& [path, id] : files_) {
    try {
      store_.close(id, false);
    } catch (const Error& error) {
      log::error(error.what());
    }
  }
}

offload::FileId BulkFiles::file(const std::string& path) {
  const auto found = files_.find(path);
  if (found != files_.end()) return found->second;
  return files_.emplace(path, store_.open(path, offload::OpenMode::open_existing, 0)).first->second;
}

void BulkFiles::write(const std::string& path, std::uint64_t offset_bytes, std::span<const std::byte> bytes) {
  store_.write(file(path), offset_bytes, bytes).wait();
}

void BulkFiles::read(const std::string& path, std::uint64_t offset_bytes, std::span<std::byte> bytes) {
  store_.read(file(path), offset_bytes, bytes).wait();
}

void BulkFiles::finish(const std::string& path) {
  const auto found = files_.find(path);
  if (found == files_.end()) return;
  const offload::FileId id = found->second;
  files_.erase(found);
  store_.close(id, true);
}

}  // namespace spillway::train
