// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>

#include "offload/block_store.hpp"

namespace spillway::test {

/// A gate that writers wait at.
class Gate {
 public:
  void close() { set(false); }
  void open() { set(true); }
  void pass() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return open_; });
  }

 private:
  void set(bool open) {
    const std::scoped_lock lock(mutex_);
    open_ = open;
    changed_.notify_all();
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = true;
};

/// Another store, whose writes block while a gate is closed: a drive as slow as a test wants it. Safe as the other store is.
class GatedStore final : public offload::BlockStore {
 public:
  /// \param gate  outlives it
  GatedStore(std::unique_ptr<offload::BlockStore> store, Gate& gate) : store_(std::move(store)), gate_(gate) {}

  [[nodiscard]] std::string description() const override { return "gated " + store_->description(); }
  [[nodiscard]] std::size_t alignment() const override { return store_->alignment(); }
  [[nodiscard]] offload::FileId open(const std::string& path, offload::OpenMode mode, std::uint64_t bytes) override {
    return store_->open(path, mode, bytes);
  }
  void close(offload::FileId file, bool sync) override { store_->close(file, sync); }
  [[nodiscard]] offload::Completion read(offload::FileId file, std::uint64_t offset_bytes,
                                         std::span<std::byte> buffer) override {
    return store_->read(file, offset_bytes, buffer);
  }
  [[nodiscard]] offload::Completion write(offload::FileId file, std::uint64_t offset_bytes,
                                          std::span<const std::byte> buffer) override {
    gate_.pass();
    return store_->write(file, offset_bytes, buffer);
  }
  [[nodiscard]] offload::StoreCounters counters() const override { return store_->counters(); }

 private:
  std::unique_ptr<offload::BlockStore> store_;
  Gate& gate_;
};

}  // namespace spillway::test
