// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <deque>
#include <map>
#include <string>

#include "checkpoint/ports.hpp"
#include "offload/block_store.hpp"

namespace spillway::train {

/// A checkpoint's bulk bytes through a block store. What is only read needs no right to write and no fsync.
class BulkFiles : public checkpoint::BulkStorage {
 public:
  /// \param store  outlives this object
  explicit BulkFiles(offload::BlockStore& store) : store_(store) {}
  ~BulkFiles() override;
  BulkFiles(const BulkFiles&) = delete;
  BulkFiles& operator=(const BulkFiles&) = delete;

  void write(const std::string& path, std::uint64_t offset_bytes, std::span<const std::byte> bytes) override;
  void read(const std::string& path, std::uint64_t offset_bytes, std::span<std::byte> bytes) override;
  void finish(const std::string& path) override;

 private:
  using OpenFiles = std::map<std::string, offload::FileId>;
  [[nodiscard]] offload::FileId file(OpenFiles& files, const std::string& path, offload::OpenMode mode);

  offload::BlockStore& store_;
  OpenFiles read_;
  OpenFiles written_;
};

}  // namespace spillway::train
