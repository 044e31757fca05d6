// SPDX-License-Identifier: Apache-2.0
#include "train/bulk_files.hpp"

#include "core/error.hpp"
#include "core/log.hpp"

namespace spillway::train {

BulkFiles::~BulkFiles() {
  for (const OpenFiles* files : {&read_, &written_}) {
    for (const auto& [path, id] : *files) {
      try {
        store_.close(id, false);
      } catch (const Error& error) {
        log::error(error.what());
      }
    }
  }
}

offload::FileId BulkFiles::file(OpenFiles& files, const std::string& path, offload::OpenMode mode) {
  const auto found = files.find(path);
  if (found != files.end()) return found->second;
  return files.emplace(path, store_.open(path, mode, 0)).first->second;
}

void BulkFiles::write(const std::string& path, std::uint64_t offset_bytes, std::span<const std::byte> bytes) {
  store_.write(file(written_, path, offload::OpenMode::open_existing), offset_bytes, bytes).wait();
}

void BulkFiles::read(const std::string& path, std::uint64_t offset_bytes, std::span<std::byte> bytes) {
  store_.read(file(read_, path, offload::OpenMode::read_existing), offset_bytes, bytes).wait();
}

void BulkFiles::finish(const std::string& path) {
  if (const auto read = read_.extract(path)) store_.close(read.mapped(), false);
  if (const auto written = written_.extract(path)) store_.close(written.mapped(), true);
}

}  // namespace spillway::train
