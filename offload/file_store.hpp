// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "offload/block_store.hpp"
#include "offload/file.hpp"
#include "offload/transfer.hpp"

namespace spillway::offload {

/// What the stores over the file system share: the open files, the limit on transfers under way, the counters.
/// A derived class moves the bytes: start() hands it a transfer, and it hands it back with finished().
class FileStore : public BlockStore {
 public:
  [[nodiscard]] std::size_t alignment() const override { return options_.direct ? kDirectAlignment : 1; }
  [[nodiscard]] FileId open(const std::string& path, OpenMode mode, std::uint64_t bytes) override;
  void close(FileId file, bool sync) override;
  [[nodiscard]] Completion read(FileId file, std::uint64_t offset_bytes, std::span<std::byte> buffer) override;
  [[nodiscard]] Completion write(FileId file, std::uint64_t offset_bytes, std::span<const std::byte> buffer) override;
  [[nodiscard]] StoreCounters counters() const override;

  [[nodiscard]] std::string description() const override;

 protected:
  /// \throws ConfigError for a depth or a call size that makes no sense
  explicit FileStore(const StoreOptions& options);
  [[nodiscard]] const StoreOptions& options() const noexcept { return options_; }
  /// Begins a transfer; there are at most options().queue_depth. Called by any thread; must not block on the disk.
  virtual void start(std::shared_ptr<Transfer> transfer) = 0;
  /// "uring"
  [[nodiscard]] virtual std::string name() const = 0;
  /// The transfer is whole or has failed. Its Completion wakes up after the counters have moved.
  void finished(const std::shared_ptr<Transfer>& transfer);
  /// Blocks until no transfer is under way. For a derived destructor, before it stops what moves the bytes.
  void wait_until_idle();

 private:
  struct OpenFile {
    std::shared_ptr<File> file;
    int under_way = 0;
  };
  Completion begin(Direction direction, FileId id, std::uint64_t offset_bytes, std::span<std::byte> buffer);
  OpenFile& find(FileId id);

  const StoreOptions options_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<int, OpenFile> files_;
  int next_number_ = 0;
  int under_way_ = 0;
  StoreCounters counters_;
};

}  // namespace spillway::offload
